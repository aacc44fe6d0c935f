package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/store"
)

// maxVersions is how many versions the database keeps.
const maxVersions = 1000

// SystemActor is the author of changes that no person made.
const SystemActor = "sluice"

// Versions stores changes in the database, one row for each version.
type Versions struct{ DB *store.DB }

// VersionRow is one version. Its number is one more than that of the version on which it depends. So one of two
// simultaneous changes fails.
type VersionRow struct {
	Version   int64 `gorm:"primaryKey;autoIncrement:false"`
	At        int64
	Actor     string
	Source    string
	Reason    string
	Digest    string
	Overrides string `gorm:"column:overlay"`
	Effective string // the hot keys in force at the instance that made it
}

// TableName returns the table of the migrations.
func (VersionRow) TableName() string { return "config_versions" }

// NoVersion returns the version before the first change. It is stored with the first version, so that that can be
// reverted. It is never listed.
func NoVersion() VersionRow { return VersionRow{Actor: SystemActor, Source: "start", Overrides: "[]"} }

// Latest returns the newest version, or NoVersion before the first.
func (v Versions) Latest(ctx context.Context) (VersionRow, error) {
	var rows []VersionRow
	if err := v.DB.Read.WithContext(ctx).Order("version DESC").Limit(1).Find(&rows).Error; err != nil {
		return VersionRow{}, fmt.Errorf("read the newest version of the configuration: %w", err)
	}
	if len(rows) == 0 {
		return NoVersion(), nil
	}
	return rows[0], nil
}

// LatestNumber returns the newest version's number, 0 before the first.
func (v Versions) LatestNumber(ctx context.Context) (int64, error) {
	var n int64
	err := v.DB.Read.WithContext(ctx).Model(&VersionRow{}).Select("COALESCE(MAX(version), 0)").Scan(&n).Error
	if err != nil {
		return 0, fmt.Errorf("read the version of the configuration: %w", err)
	}
	return n, nil
}

// Get returns one version, or ErrNoVersion.
func (v Versions) Get(ctx context.Context, n int64) (VersionRow, error) {
	var row VersionRow
	err := v.DB.Read.WithContext(ctx).Take(&row, "version = ?", n).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, fmt.Errorf("version %d: %w", n, ErrNoVersion)
	}
	return row, err
}

// List returns versions newest first, older than before when that is not 0.
func (v Versions) List(ctx context.Context, before int64, limit int) ([]Version, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := v.OlderThan(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Version, 0, len(rows))
	for _, r := range rows {
		if r.Version != 0 {
			version := r.Summary()
			version.Values = r.Values()
			list = append(list, version)
		}
	}
	return list, nil
}

// OlderThan returns older versions newest first; the last is the configuration before the first change.
func (v Versions) OlderThan(ctx context.Context, version int64, limit int) ([]VersionRow, error) {
	q := v.DB.Read.WithContext(ctx).Where("version < ?", version).Order("version DESC").Limit(limit)
	var rows []VersionRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list the versions of the configuration: %w", err)
	}
	return rows, nil
}

// Add stores a version and writes the admin log in one transaction. The log gets every hot key that differs from was,
// and the overrides. It returns ErrVersion when the number is taken.
func (v Versions) Add(ctx context.Context, row VersionRow, action string, was VersionRow) error {
	err := v.DB.Tx(ctx, func(tx *gorm.DB) error {
		added := []VersionRow{row}
		if was.Version == 0 {
			added = append(added, was)
		}
		if err := tx.Create(&added).Error; err != nil {
			return err
		}
		if err := tx.Where("version <= ?", row.Version-maxVersions).Delete(&VersionRow{}).Error; err != nil {
			return err
		}
		target := fmt.Sprintf("version %d", row.Version)
		act := adminlog.Act{Actor: row.Actor, Action: action, Target: target, Reason: row.Reason}
		return act.Write(tx, time.UnixMilli(row.At), was.imageBeside(row), row.imageBeside(was))
	})
	if store.Duplicate(err) {
		return ErrVersion
	}
	if err != nil {
		return fmt.Errorf("store version %d of the configuration: %w", row.Version, err)
	}
	return nil
}

// Summary returns the version without its values.
func (r VersionRow) Summary() Version {
	s := Version{Version: r.Version, Actor: r.Actor, Source: r.Source, Reason: r.Reason}
	if r.Version > 0 {
		s.At = time.UnixMilli(r.At).UTC()
	}
	return s
}

// Values returns the hot keys in force at the instance that made the version.
func (r VersionRow) Values() map[string]any {
	values := map[string]any{}
	_ = json.Unmarshal([]byte(r.Effective), &values) // written by Add; if unreadable, there are no values
	return values
}

// versionImage is a version as the admin log shows it.
type versionImage struct {
	Version   int64           `json:"version"`
	Values    map[string]any  `json:"values"` // of the hot keys that differ
	Overrides json.RawMessage `json:"overlay"`
}

func (r VersionRow) imageBeside(other VersionRow) versionImage {
	values, others := r.Values(), other.Values()
	maps.DeleteFunc(values, func(key string, value any) bool { return reflect.DeepEqual(value, others[key]) })
	return versionImage{r.Version, values, json.RawMessage(r.Overrides)}
}

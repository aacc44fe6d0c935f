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

// keepVersions bounds the changes that are kept to go back to.
const keepVersions = 1000

// SystemActor is the author of what no person does.
const SystemActor = "sluice"

// Versions keeps in the database what was changed, one row a version.
type Versions struct{ DB *store.DB }

// VersionRow is one version. Its number is one more than that of the version
// it was decided on: of two changes at the same time one fails.
type VersionRow struct {
	Version   int64 `gorm:"primaryKey;autoIncrement:false"`
	At        int64
	Actor     string
	Source    string
	Reason    string
	Digest    string
	Overlay   string // the overrides
	Effective string // the hot keys as they counted at the instance that made it
}

// TableName names the table for GORM.
func (VersionRow) TableName() string { return "config_versions" }

// NoVersion returns what counts before anything was changed. It is stored with the first version, to go back to,
// and never listed.
func NoVersion() VersionRow { return VersionRow{Actor: SystemActor, Source: "start", Overlay: "[]"} }

// Latest returns the newest version; NoVersion before the first.
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
			version := r.Shown()
			version.Values = r.Values()
			list = append(list, version)
		}
	}
	return list, nil
}

// OlderThan returns versions newest first, and last what the first version was made from.
func (v Versions) OlderThan(ctx context.Context, version int64, limit int) ([]VersionRow, error) {
	q := v.DB.Read.WithContext(ctx).Where("version < ?", version).Order("version DESC").Limit(limit)
	var rows []VersionRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list the versions of the configuration: %w", err)
	}
	return rows, nil
}

// Add stores a version and writes the admin log in one transaction: every hot key that counts differently than in
// was, and what operators have set. It returns ErrVersion when the number is taken.
func (v Versions) Add(ctx context.Context, row VersionRow, action string, was VersionRow) error {
	err := v.DB.Tx(ctx, func(tx *gorm.DB) error {
		added := []VersionRow{row}
		if was.Version == 0 {
			added = append(added, was)
		}
		if err := tx.Create(&added).Error; err != nil {
			return err
		}
		if err := tx.Where("version <= ?", row.Version-keepVersions).Delete(&VersionRow{}).Error; err != nil {
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

// Shown returns the version without its values.
func (r VersionRow) Shown() Version {
	s := Version{Version: r.Version, Actor: r.Actor, Source: r.Source, Reason: r.Reason}
	if r.Version > 0 {
		s.At = time.UnixMilli(r.At).UTC()
	}
	return s
}

// Values returns the hot keys as they counted at the instance that made the version.
func (r VersionRow) Values() map[string]any {
	values := map[string]any{}
	_ = json.Unmarshal([]byte(r.Effective), &values) // written by us; an unreadable one shows nothing
	return values
}

// versionImage is a version as the admin log shows it.
type versionImage struct {
	Version int64           `json:"version"`
	Values  map[string]any  `json:"values"` // of the hot keys that differ
	Overlay json.RawMessage `json:"overlay"`
}

func (r VersionRow) imageBeside(other VersionRow) versionImage {
	values, others := r.Values(), other.Values()
	maps.DeleteFunc(values, func(key string, value any) bool { return reflect.DeepEqual(value, others[key]) })
	return versionImage{r.Version, values, json.RawMessage(r.Overlay)}
}

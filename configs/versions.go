package configs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/settings"
	"sluice/store"
)

// keepVersions bounds the changes that are kept to go back to.
const keepVersions = 1000

// versions keeps in the database what was changed, one row per version.
type versions struct{ db *store.DB }

// versionRow is one version. Its number is one more than that of the version
// it was decided on: of two changes at the same time one fails.
type versionRow struct {
	Version   int64 `gorm:"primaryKey;autoIncrement:false"`
	At        int64
	Actor     string
	Source    string
	Reason    string
	Digest    string
	Overlay   string
	Effective string
}

// TableName names the table for GORM.
func (versionRow) TableName() string { return "config_versions" }

// noVersion is what counts before anything was changed. It is kept when the
// first version is, to go back to; it is none that is listed.
func noVersion() versionRow { return versionRow{Actor: author, Source: "start", Overlay: "[]"} }

// latest returns the newest version; noVersion before the first.
func (v versions) latest(ctx context.Context) (versionRow, error) {
	var rows []versionRow
	if err := v.db.Read.WithContext(ctx).Order("version DESC").Limit(1).Find(&rows).Error; err != nil {
		return versionRow{}, fmt.Errorf("read the newest version of the configuration: %w", err)
	}
	if len(rows) == 0 {
		return noVersion(), nil
	}
	return rows[0], nil
}

// number returns the newest version's number, 0 before the first.
func (v versions) number(ctx context.Context) (int64, error) {
	var n int64
	err := v.db.Read.WithContext(ctx).Model(&versionRow{}).Select("COALESCE(MAX(version), 0)").Scan(&n).Error
	if err != nil {
		return 0, fmt.Errorf("read the version of the configuration: %w", err)
	}
	return n, nil
}

// get returns one version, or settings.ErrNoVersion.
func (v versions) get(ctx context.Context, n int64) (versionRow, error) {
	var row versionRow
	err := v.db.Read.WithContext(ctx).Take(&row, "version = ?", n).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, fmt.Errorf("version %d: %w", n, settings.ErrNoVersion)
	}
	return row, err
}

// list returns versions newest first, older than before when that is not 0.
func (v versions) list(ctx context.Context, before int64, limit int) ([]versionRow, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	rows, err := v.older(ctx, before, limit)
	return slices.DeleteFunc(rows, func(r versionRow) bool { return r.Version == 0 }), err
}

// older is list with what the first version was made from.
func (v versions) older(ctx context.Context, than int64, limit int) ([]versionRow, error) {
	q := v.db.Read.WithContext(ctx).Where("version < ?", than).Order("version DESC").Limit(limit)
	var rows []versionRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list the versions of the configuration: %w", err)
	}
	return rows, nil
}

// add stores a version and writes the admin log, together: every hot key that counts differently than in was, and what operators have
// set. It returns settings.ErrVersion when the number is taken.
func (v versions) add(ctx context.Context, row versionRow, action string, was versionRow) error {
	err := v.db.Tx(ctx, func(tx *gorm.DB) error {
		kept := []versionRow{row}
		if was.Version == 0 {
			kept = append(kept, was)
		}
		if err := tx.Create(&kept).Error; err != nil {
			return err
		}
		if err := tx.Where("version <= ?", row.Version-keepVersions).Delete(&versionRow{}).Error; err != nil {
			return err
		}
		act := adminlog.Act{Actor: row.Actor, Action: action, Target: fmt.Sprintf("version %d", row.Version), Reason: row.Reason}
		return act.Write(tx, time.UnixMilli(row.At), was.imageBeside(row), row.imageBeside(was))
	})
	if store.Duplicate(err) {
		return settings.ErrVersion
	}
	if err != nil {
		return fmt.Errorf("store version %d of the configuration: %w", row.Version, err)
	}
	return nil
}

func (r versionRow) shown() settings.Version {
	s := settings.Version{Version: r.Version, Actor: r.Actor, Source: r.Source, Reason: r.Reason}
	if r.Version > 0 {
		s.At = time.UnixMilli(r.At).UTC()
	}
	return s
}

// versionImage is a version as the admin log shows it.
type versionImage struct {
	Version int64           `json:"version"`
	Values  map[string]any  `json:"values"` // of the hot keys that differ
	Overlay json.RawMessage `json:"overlay"`
}

func (r versionRow) imageBeside(other versionRow) versionImage {
	values, others := r.values(), other.values()
	maps.DeleteFunc(values, func(key string, value any) bool { return reflect.DeepEqual(value, others[key]) })
	return versionImage{r.Version, values, json.RawMessage(r.Overlay)}
}

// before is the version that counts, with what the process was started with where there is none.
func (l *Live) before() versionRow { return l.since(l.version) }

// since is a version as the one after it keeps it.
func (l *Live) since(row versionRow) versionRow {
	if row.Version == 0 {
		row.At, row.Digest, row.Effective = l.now().UnixMilli(), l.boot.digest(), l.boot.stored()
	}
	return row
}

func (r versionRow) values() map[string]any {
	values := map[string]any{}
	_ = json.Unmarshal([]byte(r.Effective), &values) // written by us; an unreadable one shows nothing
	return values
}

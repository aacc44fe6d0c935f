package fleet

import (
	"context"
	"fmt"
	"time"

	"sluice/store"
)

// registryKept is how many processes are remembered, the newest.
const registryKept = 100_000

// Registry remembers every process that ran, under a small number which orders and tickets carry. It names who did a
// step long after that process is gone. Safe for concurrent use.
type Registry struct{ db *store.DB }

// NewRegistry returns the registry kept in db.
func NewRegistry(db *store.DB) *Registry { return &Registry{db: db} }

// registryRow is one process.
type registryRow struct {
	Number    int64 `gorm:"primaryKey;autoIncrement"`
	Name      string
	Roles     string
	Version   string
	StartedAt int64 // unix ms
}

// TableName names the table for GORM.
func (registryRow) TableName() string { return "instances" }

// Enrol gives a process its number, from 1; no other ever gets the same. The 100,000 newest are remembered.
func (r *Registry) Enrol(ctx context.Context, name, roles, version string, now time.Time) (int64, error) {
	row := registryRow{Name: short(name, 128), Roles: short(roles, 64), Version: short(version, 64),
		StartedAt: now.UnixMilli()}
	db := r.db.Write.WithContext(ctx)
	if err := db.Create(&row).Error; err != nil {
		return 0, fmt.Errorf("enrol instance %s: %w", name, err)
	}
	if err := db.Where("number <= ?", row.Number-registryKept).Delete(&registryRow{}).Error; err != nil {
		return 0, fmt.Errorf("forget old instances: %w", err)
	}
	return row.Number, nil
}

// short cuts a text to so many characters, and makes it one that every database takes.
func short(text string, most int) string {
	runes := []rune(text)
	return string(runes[:min(len(runes), most)])
}

// Names returns the names of processes by their numbers. Those that are not remembered are absent.
func (r *Registry) Names(ctx context.Context, numbers []int64) (map[int64]string, error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	var rows []registryRow
	if err := r.db.Read.WithContext(ctx).Where("number IN ?", numbers).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read the names of %d instances: %w", len(numbers), err)
	}
	names := make(map[int64]string, len(rows))
	for _, row := range rows {
		names[row.Number] = row.Name
	}
	return names, nil
}

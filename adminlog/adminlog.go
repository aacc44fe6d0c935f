// Package adminlog records who changed what, when and why.
package adminlog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gorm.io/gorm"

	"sluice/internal/invalid"
	"sluice/store"
)

// Act says who did what: the first columns of an entry.
type Act struct {
	Actor, Action string
	Sale          string // empty: the act concerns no single sale
	Target        string // at most 128 bytes
	Reason        string // may be empty; at most 200 characters
}

// Check returns an invalid.Error for a reason that cannot be stored.
func (a Act) Check() error {
	if a.Reason != "" && !invalid.PlainText(a.Reason, 200) {
		return invalid.Error{{Field: "reason", Detail: "must be at most 200 characters without control characters"}}
	}
	return nil
}

// Write adds an entry within the transaction of the change itself. before and after show its target.
func (a Act) Write(tx *gorm.DB, now time.Time, before, after any) error {
	_, err := a.insert(tx, Entry{At: now.UnixMilli()}, before, after)
	return err
}

// insert completes and inserts an entry that has its time and instance, and returns its id.
func (a Act) insert(tx *gorm.DB, entry Entry, before, after any) (int64, error) {
	was, err := json.Marshal(before)
	if err != nil {
		return 0, err
	}
	is, err := json.Marshal(after)
	if err != nil {
		return 0, err
	}
	entry.Actor, entry.Action, entry.SaleID, entry.Target, entry.Reason = a.Actor, a.Action, a.Sale, a.Target, a.Reason
	entry.BeforeValue, entry.AfterValue = string(was), string(is)
	err = tx.Create(&entry).Error
	return entry.ID, err
}

// Entry is one act in the admin log. Its values are JSON, null for a missing value.
type Entry struct {
	ID          int64 `gorm:"primaryKey;autoIncrement"`
	At          int64 // unix ms
	Actor       string
	Action      string
	SaleID      string
	Target      string
	Reason      string
	BeforeValue string
	AfterValue  string
	Instance    int64 // number of the process that made the change; 0: unknown
}

// TableName returns the table of the migrations.
func (Entry) TableName() string { return "admin_log" }

// Outcome is the after value of an act without a result to show.
type Outcome struct {
	Outcome string `json:"outcome"`
}

func newUnknownOutcome() Outcome { return Outcome{"unknown"} }

// Log reads and writes the admin log for one process. Safe for concurrent use.
type Log struct {
	db       *store.DB
	log      *slog.Logger
	now      func() time.Time
	instance int64
}

// New returns the admin log kept in db. instance is the number of the process, 0 if it has none.
func New(db *store.DB, log *slog.Logger, now func() time.Time, instance int64) *Log {
	return &Log{db: db, log: log, now: now, instance: instance}
}

// RecordChange makes a change outside of the database that must not happen without an entry. It commits the entry with
// an unknown outcome, calls do and completes the entry with the result of do. If refused says that the error of do
// means that nothing was changed, the entry is removed. After any other error, and after a crash, the entry keeps its
// unknown outcome. It returns an invalid.Error for a bad reason, and the error of do.
func (l *Log) RecordChange(ctx context.Context, a Act, before any, refused func(error) bool,
	do func(context.Context) (after any, err error)) error {
	if err := a.Check(); err != nil {
		return err
	}
	var id int64
	err := l.db.Tx(ctx, func(tx *gorm.DB) (err error) {
		id, err = a.insert(tx, l.entry(), before, newUnknownOutcome())
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s into the admin log: %w", a.Action, err)
	}
	after, err := do(ctx)
	switch {
	case err == nil:
		l.complete(ctx, id, after)
	case refused(err):
		l.remove(ctx, id, a.Action)
	}
	return err
}

// Write adds an entry of this process, as Act.Write does.
func (l *Log) Write(tx *gorm.DB, a Act, before, after any) error {
	_, err := a.insert(tx, l.entry(), before, after)
	return err
}

// entry returns a new entry of this process.
func (l *Log) entry() Entry { return Entry{At: l.now().UnixMilli(), Instance: l.instance} }

// complete stores the state of the target after a change. If that fails, the entry keeps its unknown outcome.
func (l *Log) complete(ctx context.Context, id int64, after any) {
	is, err := json.Marshal(after)
	if err == nil {
		err = l.db.Tx(context.WithoutCancel(ctx), func(tx *gorm.DB) error {
			return tx.Model(&Entry{}).Where("id = ?", id).Update("after_value", string(is)).Error
		})
	}
	if err != nil {
		l.log.Warn("an entry of the admin log keeps its unknown outcome", "entry", id, "error", err)
	}
}

// remove deletes the entry of a change that was refused.
func (l *Log) remove(ctx context.Context, id int64, action string) {
	err := l.db.Tx(context.WithoutCancel(ctx), func(tx *gorm.DB) error {
		return tx.Delete(&Entry{}, "id = ?", id).Error
	})
	if err != nil {
		l.log.Warn("the admin log holds a change that was refused", "entry", id, "action", action, "error", err)
	}
}

// Filter says which entries to list; empty and zero fields select all.
type Filter struct {
	Sale, Actor, Target string
	Action              string // the whole name, or the part before a dot: sale is sale.open, sale.update …
	Since               time.Time
}

// List returns up to limit entries, newest first: those before an entry, or all when before is 0.
func (l *Log) List(ctx context.Context, only Filter, before int64, limit int) ([]Entry, error) {
	q := l.db.Read.WithContext(ctx).Order("id DESC").Limit(limit)
	for column, value := range map[string]string{"sale_id": only.Sale, "actor": only.Actor, "target": only.Target} {
		if value != "" {
			q = q.Where(column+" = ?", value)
		}
	}
	if only.Action != "" {
		escaped := strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(only.Action)
		q = q.Where("(action = ? OR action LIKE ? ESCAPE '!')", only.Action, escaped+".%")
	}
	if !only.Since.IsZero() {
		q = q.Where("at >= ?", only.Since.UnixMilli())
	}
	if before > 0 {
		q = q.Where("id < ?", before)
	}
	var entries []Entry
	if err := q.Find(&entries).Error; err != nil {
		return nil, fmt.Errorf("read the admin log: %w", err)
	}
	return entries, nil
}

package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gorm.io/gorm"

	"sluice/store"
)

// Act is what somebody did: the heading of an entry in the admin log.
type Act struct {
	Actor, Action string
	Sale          string // empty: it belongs to no single sale
	Target        string // at most 128 bytes
	Reason        string
}

// Check returns an InvalidError for a reason that cannot be written down: it may be empty, and has at most 200 characters.
func (a Act) Check() error {
	if a.Reason != "" && !plainText(a.Reason, 200) {
		return InvalidError{{"reason", "must be at most 200 characters without control characters"}}
	}
	return nil
}

// Log writes the act into the admin log, within the transaction of the change itself, with how its target was before and after.
func (a Act) Log(tx *gorm.DB, now time.Time, before, after any) error {
	_, err := a.write(tx, now, 0, before, after)
	return err
}

func (a Act) write(tx *gorm.DB, now time.Time, instance int64, before, after any) (int64, error) {
	was, err := json.Marshal(before)
	if err != nil {
		return 0, err
	}
	is, err := json.Marshal(after)
	if err != nil {
		return 0, err
	}
	row := LogEntry{At: now.UnixMilli(), Actor: a.Actor, Action: a.Action, SaleID: a.Sale, Target: a.Target, Reason: a.Reason,
		BeforeValue: string(was), AfterValue: string(is), Instance: instance}
	err = tx.Create(&row).Error
	return row.ID, err
}

// Log writes an act that belongs to no single sale.
func Log(tx *gorm.DB, now time.Time, actor, action, target, reason string, before, after any) error {
	return Act{Actor: actor, Action: action, Target: target, Reason: reason}.Log(tx, now, before, after)
}

// LogEntry is one act in the admin log. Its values are JSON, null for what is not there.
type LogEntry struct {
	ID          int64 `gorm:"primaryKey;autoIncrement"`
	At          int64 // unix ms
	Actor       string
	Action      string
	SaleID      string
	Target      string
	Reason      string
	BeforeValue string
	AfterValue  string
	Instance    int64 // number of the process that was asked; 0: not known
}

// TableName names the table for GORM.
func (LogEntry) TableName() string { return "admin_log" }

// Outcome is the after value of an act of which nobody has yet said what came of it.
type Outcome struct {
	Outcome string `json:"outcome"`
}

func unknownOutcome() Outcome { return Outcome{"unknown"} }

// AdminLog keeps who changed what, when and why. Safe for concurrent use.
type AdminLog struct {
	db  *store.DB
	log *slog.Logger
	now func() time.Time

	instance int64
}

// Numbered names the process whose entries these are, for an order's timeline.
func (l *AdminLog) Numbered(instance int64) *AdminLog {
	l.instance = instance
	return l
}

// NewAdminLog returns the admin log kept in db.
func NewAdminLog(db *store.DB, log *slog.Logger, now func() time.Time) *AdminLog {
	return &AdminLog{db: db, log: log, now: now}
}

// Noted makes a change outside of the database that cannot be made without leaving an entry: the entry is committed first, with an
// unknown outcome, and completed with what do returns. It is taken back when do fails with an error that refused says has changed
// nothing, and stays as it is after any other error and after a crash. It returns an InvalidError for a bad reason, and the error of do.
func (l *AdminLog) Noted(ctx context.Context, a Act, before any, refused func(error) bool, do func(context.Context) (after any, err error)) error {
	if err := a.Check(); err != nil {
		return err
	}
	var id int64
	err := l.db.Tx(ctx, func(tx *gorm.DB) (err error) {
		id, err = l.Begin(tx, a, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s into the admin log: %w", a.Action, err)
	}
	after, err := do(ctx)
	switch {
	case err == nil:
		l.Finish(ctx, id, after)
	case refused(err):
		if back := l.db.Tx(context.WithoutCancel(ctx), func(tx *gorm.DB) error { return l.TakeBack(tx, id) }); back != nil {
			l.log.Warn("the admin log holds a change that was refused", "entry", id, "action", a.Action, "error", back)
		}
	}
	return err
}

// Log writes an act of this process as Act.Log does.
func (l *AdminLog) Log(tx *gorm.DB, a Act, before, after any) error {
	_, err := a.write(tx, l.now(), l.instance, before, after)
	return err
}

// Begin writes an entry with an unknown outcome and returns its id, for Finish or TakeBack once it is known.
func (l *AdminLog) Begin(tx *gorm.DB, a Act, before any) (int64, error) {
	return a.write(tx, l.now(), l.instance, before, unknownOutcome())
}

// Finish completes an entry. Should that fail, the change is made all the same and its entry keeps its unknown outcome.
func (l *AdminLog) Finish(ctx context.Context, id int64, after any) {
	is, err := json.Marshal(after)
	if err == nil {
		err = l.db.Tx(context.WithoutCancel(ctx), func(tx *gorm.DB) error {
			return tx.Model(&LogEntry{}).Where("id = ?", id).Update("after_value", string(is)).Error
		})
	}
	if err != nil {
		l.log.Warn("an entry of the admin log keeps its unknown outcome", "entry", id, "error", err)
	}
}

// TakeBack removes the entry of a change that was refused.
func (l *AdminLog) TakeBack(tx *gorm.DB, id int64) error {
	return tx.Delete(&LogEntry{}, "id = ?", id).Error
}

// LogFilter says which entries to list; what is empty or zero does not matter.
type LogFilter struct {
	Sale, Actor, Target string
	Action              string // the whole name, or the part before a dot: sale is sale.open, sale.update …
	Since               time.Time
}

// List returns up to limit entries, newest first, older than the entry before when that is not 0.
func (l *AdminLog) List(ctx context.Context, only LogFilter, before int64, limit int) ([]LogEntry, error) {
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
	var entries []LogEntry
	if err := q.Find(&entries).Error; err != nil {
		return nil, fmt.Errorf("read the admin log: %w", err)
	}
	return entries, nil
}

package schema

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/store"
)

// beside returns an error while a process runs that announces no range, because its needs are unknown.
func (m *migrator) beside(ctx context.Context) error {
	if len(m.standing.Pending)+len(m.standing.Waiting) == 0 {
		return nil
	}
	running, err := m.running(ctx)
	if err != nil {
		return err
	}
	var silent []Process
	for _, p := range running {
		if p.Schema == (Range{}) {
			silent = append(silent, p)
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return &Error{fmt.Sprintf("%d migrations are pending, and processes run whose build does not tell which "+
		"schema it needs. "+
		"Stop these first: %s", len(m.standing.Pending)+len(m.standing.Waiting), Listed(silent))}
}

// Listed returns the names of processes with their versions, for messages.
func Listed(processes []Process) string {
	const most = 10
	var names []string
	for _, p := range processes[:min(len(processes), most)] {
		names = append(names, fmt.Sprintf("%s (version %s)", p.Name, p.Version))
	}
	if more := len(processes) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// running returns the processes of the registry and of the database, each once.
func (m *migrator) running(ctx context.Context) ([]Process, error) {
	all, err := m.db.Processes(ctx)
	if err != nil {
		return nil, err
	}
	if m.registry == nil {
		return all, nil
	}
	others, err := m.registry(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, p := range all {
		known[p.Name] = true
	}
	for _, p := range others {
		if !known[p.Name] {
			all = append(all, p)
		}
	}
	return all, nil
}

// contracts announces a contracting migration, or reports that it has to wait. A process that starts meanwhile records
// itself before it reads the announcement. So it either reads the announcement and ends, or the second check finds it.
func (m *migrator) contracts(ctx context.Context, one Migration) (waits bool, err error) {
	for range 2 {
		users, err := m.usersOfOldForm(ctx, one)
		if err != nil {
			return false, err
		}
		if len(users) > 0 {
			m.done.Waiting, m.done.For = append(m.done.Waiting, one), users
			return true, m.db.retract(ctx, m.standing.Least)
		}
		if err := m.db.announce(ctx, one.Version, one.Version); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (m *migrator) usersOfOldForm(ctx context.Context, one Migration) ([]Process, error) {
	running, err := m.running(ctx)
	if err != nil {
		return nil, err
	}
	var users []Process
	for _, p := range running {
		if p.Schema.Newest < one.Version {
			users = append(users, p)
		}
	}
	return users, nil
}

// processExpiry is how long after its last beat a process counts as running.
const processExpiry = 15 * time.Second

// processKept is how long the row of a process without a clean end stays.
const processKept = time.Hour

// processRow is one process.
type processRow struct {
	Name         string `gorm:"primaryKey"`
	Version      string
	SchemaOldest int64
	SchemaNewest int64
	SeenAt       int64
}

// TableName returns the table of the migrations.
func (processRow) TableName() string { return processesTable }

// Processes returns the running processes that the database knows, by name.
func (db *Schema) Processes(ctx context.Context) ([]Process, error) {
	ctx, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	found, err := db.tables(ctx)
	if err != nil || !hasColumns(found[processesTable], []string{"name", "version", "schema_newest", "seen_at"}) {
		return nil, err
	}
	var rows []processRow
	err = db.Read.WithContext(ctx).Where("seen_at > "+db.nowMS()+" - ?",
		processExpiry.Milliseconds()).Order("name").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read which processes run: %w", err)
	}
	running := make([]Process, len(rows))
	for i, row := range rows {
		running[i] = Process{Name: row.Name, Version: row.Version,
			Schema: Range{Oldest: row.SchemaOldest, Newest: row.SchemaNewest},
			Seen:   time.UnixMilli(row.SeenAt).UTC()}
	}
	return running, nil
}

// Beat records that a process runs. It counts as running for 15 seconds, by the database's clock.
func (db *Schema) Beat(ctx context.Context, p Process) error {
	ctx, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	again := map[string]string{store.MySQL: " ON DUPLICATE KEY UPDATE seen_at = VALUES(seen_at)"}[db.Driver]
	if again == "" {
		again = " ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at"
	}
	err := db.Write.WithContext(ctx).Exec("INSERT INTO "+processesTable+" (name, version, schema_oldest, "+
		"schema_newest, seen_at) VALUES (?, ?, ?, ?, "+
		db.nowMS()+")"+again, p.Name, short(p.Version, maxVersionLength), p.Schema.Oldest, p.Schema.Newest).Error
	if err != nil {
		return fmt.Errorf("note that process %s runs: %w", p.Name, err)
	}
	return nil
}

// versionMost is how many characters of a build's version are stored, because it may be any text.
const maxVersionLength = 64

// short cuts a text to most characters and makes it valid for every database.
func short(text string, most int) string {
	runes := []rune(text)
	return string(runes[:min(len(runes), most)])
}

// Leave removes a process that ends, and those without a beat for an hour.
func (db *Schema) Leave(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	err := db.Write.WithContext(ctx).Exec("DELETE FROM "+processesTable+" WHERE name = ? OR seen_at < "+db.nowMS()+" "+
		"- ?", name,
		processKept.Milliseconds()).Error
	if err != nil {
		return fmt.Errorf("note that process %s ends: %w", name, err)
	}
	return nil
}

// nowMS returns the SQL expression of the database's clock in unix milliseconds.
func (db *Schema) nowMS() string {
	return map[string]string{
		store.MySQL:    "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
		store.Postgres: "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
		store.SQLite:   "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
	}[db.Driver]
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/store"
)

func newMigrateCommand(c *cli) *cobra.Command {
	up := &cobra.Command{
		Use:     "up",
		Short:   "Bring the database's tables up to date",
		Example: "  sluice migrate up --config configs/production.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withDatabase(cmd.Context(), func(ctx context.Context, db *store.DB) error {
				applied, err := db.Migrate(ctx)
				if err != nil {
					return err
				}
				if c.asJSON {
					return c.printJSON(map[string]int{"applied": applied})
				}
				return c.print(fmt.Sprintf("applied %d migrations\n", applied))
			})
		},
	}
	status := &cobra.Command{
		Use:     "status",
		Short:   "List what was applied and what is pending, and change nothing",
		Example: "  sluice migrate status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withDatabase(cmd.Context(), c.migrationStatus)
		},
	}
	c.jsonFlag(up)
	c.jsonFlag(status)
	return newGroup("migrate", "Create and change the database's tables", "  sluice migrate up\n  sluice migrate status", up, status)
}

func (c *cli) withDatabase(ctx context.Context, do func(context.Context, *store.DB) error) error {
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"database", "log"}})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, loaded.Config.Database, c.logger(loaded.Config.Log))
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, db), db.Close())
}

func (c *cli) migrationStatus(ctx context.Context, db *store.DB) error {
	migrations, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	type entry struct {
		Version   int64  `json:"version"`
		Name      string `json:"name"`
		Pending   bool   `json:"pending"`
		AppliedAt string `json:"applied_at,omitempty"`
	}
	entries := make([]entry, len(migrations))
	rows := [][]string{{"VERSION", "NAME", "APPLIED"}}
	for i, m := range migrations {
		e, shown := entry{Version: m.Version, Name: m.Name, Pending: m.Pending}, "pending"
		if !m.Pending {
			e.AppliedAt = m.AppliedAt.UTC().Format(time.RFC3339)
			shown = e.AppliedAt
		}
		entries[i] = e
		rows = append(rows, []string{strconv.FormatInt(m.Version, 10), m.Name, shown})
	}
	if c.asJSON {
		return c.printJSON(map[string]any{"driver": db.Driver, "migrations": entries})
	}
	return c.print(table(rows...))
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/fleet"
	"sluice/store"
	"sluice/store/redis"
	"sluice/store/schema"
)

func newMigrateCommand(c *cli) *cobra.Command {
	up := &cobra.Command{
		Use:   "up",
		Short: "Bring the database's tables up to date",
		Long: "up applies what only adds at once, and what takes something away when no process runs that needs it. " +
			"While a\nprocess runs whose build does not tell which schema it needs, nothing is applied.\nIt asks " +
			"the database and Redis who runs.",
		Example: "  sluice migrate up --config configs/production.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.withSchema(cmd.Context(), (*schemaStores).up) },
	}
	status := &cobra.Command{
		Use:     "status",
		Short:   "List what was applied and what is pending, and change nothing",
		Example: "  sluice migrate status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withSchema(cmd.Context(), (*schemaStores).status)
		},
	}
	c.jsonFlag(up)
	c.jsonFlag(status)
	return newGroup("migrate", "Create and change the database's tables",
		"  sluice migrate up\n  sluice migrate status", up, status)
}

// schemaStores has what the migrate commands use: the database's schema and the registry in Redis.
type schemaStores struct {
	*cli
	db    *store.DB
	redis redis.Config
	note  string // why Redis did not answer; empty: it did
}

func (c *cli) withSchema(ctx context.Context, do func(*schemaStores, context.Context) error) error {
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"database", "redis", "log"}})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, loaded.Config.Database, c.logger(loaded.Config.Log))
	if err != nil {
		return err
	}
	s := &schemaStores{cli: c, db: db, redis: loaded.Config.Redis}
	return errors.Join(do(s, ctx), db.Close())
}

// registry returns the processes that Redis knows. Without an answer of Redis it sets s.note and returns none.
// Processes that announce their range are in the database, too.
func (s *schemaStores) registry(ctx context.Context) (running []schema.Process, err error) {
	err = redis.Peek(ctx, s.redis, func(ctx context.Context, rdb goredis.UniversalClient) error {
		running, err = fleet.NewInstances(rdb, s.redis.Prefix, slog.New(slog.DiscardHandler)).Processes(ctx)
		return err
	})
	if errors.Is(err, redis.ErrPrivate) {
		return nil, nil
	}
	if err != nil {
		s.note =
			"redis cannot be asked which processes run, so builds that do not tell their schema range are not seen: " +
				err.Error()
	}
	return running, nil
}

func (s *schemaStores) up(ctx context.Context) error {
	done, err := schema.Of(s.db).MigrateBeside(ctx, s.registry)
	if s.note != "" {
		fmt.Fprintln(s.err, "sluice: "+s.note)
	}
	if err != nil {
		return err
	}
	if s.asJSON {
		return s.printJSON(struct {
			Applied int              `json:"applied"`
			Waiting []string         `json:"waiting,omitempty"` // contracting, with the processes they wait for
			For     []schema.Process `json:"waiting_for,omitempty"`
			Note    string           `json:"note,omitempty"`
		}{len(done.Applied), migrationNames(done.Waiting), done.For, s.note})
	}
	text := fmt.Sprintf("applied %d migrations\n", len(done.Applied))
	if len(done.Waiting) > 0 {
		text += fmt.Sprintf("%d contracting migrations (%s) wait for %s\n", len(done.Waiting),
			strings.Join(migrationNames(done.Waiting), ", "),
			schema.Listed(done.For))
	}
	return s.print(text)
}

func migrationNames(migrations []schema.Migration) []string {
	names := make([]string, len(migrations))
	for i, m := range migrations {
		names[i] = m.Name
	}
	return names
}

func orNone(processes []schema.Process) []schema.Process {
	if processes == nil {
		return []schema.Process{}
	}
	return processes
}

// status prints the migrations, the schema versions that may use the database, and the running processes.
func (s *schemaStores) status(ctx context.Context) error {
	standing, err := schema.Of(s.db).Look(ctx)
	if err != nil {
		return err
	}
	refused := standing.Refuses()
	if refused == nil {
		refused = schema.Of(s.db).Fits(ctx)
	}
	var misfit *schema.Error
	if refused != nil && !errors.As(refused, &misfit) {
		return refused
	}
	running, err := schema.Of(s.db).Processes(ctx)
	if err != nil {
		return err
	}
	others, _ := s.registry(ctx) // an error is in s.note
	known := map[string]bool{}
	for _, p := range running {
		known[p.Name] = true
	}
	for _, p := range others {
		if !known[p.Name] {
			running = append(running, p)
		}
	}
	if s.asJSON {
		return s.printJSON(s.statusBody(standing, running, refused))
	}
	return s.print(s.statusText(standing, running, refused))
}

type migrationEntry struct {
	Version   int64  `json:"version"`
	Name      string `json:"name"`
	Kind      string `json:"kind"` // expand or contract
	Note      string `json:"note,omitempty"`
	Pending   bool   `json:"pending"`
	AppliedAt string `json:"applied_at,omitempty"`
}

func migrationEntries(migrations []schema.Migration) []migrationEntry {
	entries := make([]migrationEntry, len(migrations))
	for i, m := range migrations {
		entries[i] = migrationEntry{Version: m.Version, Name: m.Name, Kind: "expand", Note: m.Note, Pending: m.Pending}
		if m.Contract {
			entries[i].Kind = "contract"
		}
		if !m.Pending {
			entries[i].AppliedAt = m.AppliedAt.UTC().Format(time.RFC3339)
		}
	}
	return entries
}

func (s *schemaStores) statusBody(standing schema.Standing, running []schema.Process, refused error) map[string]any {
	body := map[string]any{"driver": s.db.Driver, "table": standing.Table, "version": standing.Version,
		"least": standing.Least,
		"range": standing.Range, "migrations": migrationEntries(standing.Complete),
		"waiting": migrationNames(standing.Waiting),
		"unknown": append([]int64{}, standing.Unknown...), "processes": orNone(running), "note": s.note}
	if refused != nil {
		body["refused"] = refused.Error()
	}
	return body
}

func (s *schemaStores) statusText(standing schema.Standing, running []schema.Process, refused error) string {
	rows := [][]string{{"VERSION", "NAME", "APPLIED"}}
	for _, e := range migrationEntries(standing.Complete) {
		shown := "pending"
		if !e.Pending {
			shown = e.AppliedAt
		} else if e.Kind == "contract" {
			shown = "waits: contracts"
		} else if e.Note != "" && standing.Table != "" {
			shown += ": " + e.Note
		}
		rows = append(rows, []string{strconv.FormatInt(e.Version, 10), e.Name, shown})
	}
	text := table(rows...)
	text += fmt.Sprintf("\nthis build works with schema versions %d to %d; the database is at %d and wants processes "+
		"that know %d\n",
		standing.Range.Oldest, standing.Range.Newest, standing.Version, standing.Least)
	if standing.Table != "" {
		text += "versions are noted in " + standing.Table + "\n"
	}
	if refused != nil {
		text += "refused: " + refused.Error() + "\n"
	}
	for _, p := range running {
		versions := fmt.Sprintf("%d to %d", p.Schema.Oldest, p.Schema.Newest)
		if p.Schema == (schema.Range{}) {
			versions = "not told: stop it before migrating"
		}
		text += fmt.Sprintf("running: %s, version %s, schema %s\n", printable(p.Name), printable(p.Version), versions)
	}
	if s.note != "" {
		text += s.note + "\n"
	}
	return text
}

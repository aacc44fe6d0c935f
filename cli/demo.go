package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"sluice/app"
	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/internal/shoppers"
	"sluice/inventory"
	"sluice/store/redis"
)

const demoDir = "data"

// demo is one run of the demonstration.
type demo struct {
	loaded   *configs.Loaded
	cli      *cli
	cfg      configs.Config
	app      *app.App
	sale     string
	shoppers int
	stock    int
	once     bool
	adopt    bool
}

func newDemoCommand(c *cli) *cobra.Command {
	d := &demo{cli: c}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole flash sale on this machine, then keep serving",
		Long: "demo starts every part with its state under ./data, opens a sale, sends simulated shoppers at it " +
			"over HTTP,\nprints what became of them and the audit, and keeps serving until interrupted.",
		Example: "  sluice demo\n  sluice demo --shoppers 5000 --stock 100 --once",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	cmd.Flags().IntVar(&d.shoppers, "shoppers", 2000, "simulated shoppers, 0 only serves")
	cmd.Flags().IntVar(&d.stock, "stock", 500, "units on sale")
	adoptFlag(cmd, &d.adopt)
	cmd.Flags().BoolVar(&d.once, "once", false, "stop after the audit")
	return cmd
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.shoppers < 0 || d.shoppers > 1_000_000 || d.stock < 0 || d.stock > 1_000_000 {
		return usageError{errors.New("--shoppers and --stock must be between 0 and 1000000")}
	}
	if d.cfg, err = d.configure(); err != nil {
		return err
	}
	log := d.cli.logger(d.cfg.Log)
	redis.LogClient(log)
	d.app, err = app.New(ctx, d.cfg, app.Options{Roles: app.AllRoles(), Log: log, Registry: prometheus.NewRegistry(),
		Now: d.cli.now, Version: d.cli.build().Version,
		Level: &d.cli.level, Loaded: d.loaded, AdoptRedis: d.adopt})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Stop.Grace)
		defer cancel()
		err = errors.Join(err, d.app.Stop(stop))
	}()
	if err := d.app.Start(ctx); err != nil {
		return err
	}
	if err := d.openSale(ctx); err != nil {
		return err
	}
	d.introduce(d.cli.out)
	if d.shoppers > 0 {
		if err := d.sell(ctx); err != nil {
			return err
		}
	}
	if d.once {
		return nil
	}
	d.invite(d.cli.out)
	select {
	case err := <-d.app.Failed():
		return err
	case <-ctx.Done():
		fmt.Fprintln(d.cli.out, "\nStopping: finishing what was accepted.")
		return nil
	}
}

// configure loads the embedded configuration with its state under ./data. Flags, environment and file may still change
// it.
func (d *demo) configure() (configs.Config, error) {
	secret, err := demoSecret()
	if err != nil {
		return configs.Config{}, err
	}
	loaded, err := d.cli.loadOptions(configs.Options{Defaults: map[string]any{
		"auth.mode": auth.ModeJWT, "auth.secret": secret, "redis.dir": filepath.Join(demoDir, "redis"),
		"database.driver": "sqlite", "database.dsn": filepath.Join(demoDir, "sluice.db"), "log.level": "warn",
		"log.format": "text",
		"http.addr":  freeAddr("127.0.0.1:8080"), "ops.addr": freeAddr("127.0.0.1:8081"),
	}})
	if err != nil {
		return configs.Config{}, err
	}
	d.loaded = loaded
	return loaded.Config, nil
}

// demoSecret returns the secret for the demo's tokens. It is stored, so that tokens and commands in another terminal
// work after a restart.
func demoSecret() (string, error) {
	path := filepath.Join(demoDir, "secret")
	// #nosec G304 -- in the demonstration's own folder
	if text, err := os.ReadFile(path); err == nil && len(text) >= 32 {
		return strings.TrimSpace(string(text)), nil
	}
	if err := os.MkdirAll(demoDir, 0o700); err != nil {
		return "", fmt.Errorf("make the demo's folder: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	secret := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the demo's secret: %w", err)
	}
	return secret, nil
}

// freeAddr returns addr, or a free port when addr is in use.
func freeAddr(addr string) string {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = ln.Close() // nothing was served on it
	return addr
}

func (d *demo) openSale(ctx context.Context) error {
	now := d.cli.now()
	d.sale = fmt.Sprintf("demo-%s-%03d", now.Format("20060102-150405"), now.Nanosecond()/1e6)
	return d.app.OpenSale(ctx, inventory.NewSale{ID: d.sale, Title: "Phone X, launch day", SKU: "PHONE-X",
		Stock:      int64(d.stock),
		PriceCents: 9900, Currency: "CNY", PerUserLimit: 1, StartsAt: now, EndsAt: now.Add(24 * time.Hour),
		Open: true}, "demo")
}

func (d *demo) introduce(w io.Writer) {
	opened := d.app.Redis()
	fmt.Fprintf(w, "Sluice demo · sale %s · %d units at 99.00 CNY, one per person\n", d.sale, d.stock)
	switch opened.Mode {
	case redis.ModeManaged:
		fmt.Fprintf(w, "  redis     %s, a private child with its append-only file in %s (fsync: %s)\n", opened.Version,
			d.cfg.Redis.Dir, opened.Durability)
	case redis.ModeEmbedded:
		fmt.Fprintln(w,
			"  redis     in memory inside this process: waiting orders die with it (install redis-server 7 to "+
				"keep them)")
	default:
		fmt.Fprintf(w, "  redis     %s %v (fsync: %s)\n", opened.Mode, d.cfg.Redis.Addrs, opened.Durability)
	}
	fmt.Fprintf(w, "  database  %s\n  shop      http://%s\n  ops       http://%s\n\n",
		d.cfg.Database.Driver, d.app.Addr(), d.app.OpsAddr())
}

// sell runs the shoppers, prints their outcomes and audits. It returns an error if the audit finds a difference.
func (d *demo) sell(ctx context.Context) error {
	shoppers := shoppers.New(d.app.Addr(), d.sale, d.shoppers, d.cfg.Auth, d.cli.now)
	if err := shoppers.Run(ctx, d.cli.out); err != nil {
		return err
	}
	shoppers.Report(d.cli.out)
	result, err := d.app.Audit(ctx)
	if err != nil {
		return err
	}
	if err := printAudit(d.cli.out, result); err != nil {
		return err
	}
	if err := auditError(result); err != nil {
		return err
	}
	if got, want := shoppers.Outcomes()["confirmed"], min(d.shoppers, d.stock); got != want {
		return fmt.Errorf("%d orders were confirmed, not %d", got, want)
	}
	return nil
}

func (d *demo) invite(w io.Writer) {
	token, err := auth.Mint(d.cfg.Auth, "you", false, 24*time.Hour, d.cli.now())
	if err != nil {
		fmt.Fprintf(w, "no token for you: %v\n", err)
		return
	}
	fmt.Fprintf(w, "\nStill serving, Ctrl-C stops. Order one yourself:\n\n  curl -i -X POST "+
		"http://%s/v1/sales/%s/orders -H 'Authorization: Bearer %s'\n", d.app.Addr(), d.sale, token)
	fmt.Fprintf(w,
		"\nIn another terminal, from this folder:\n\n  export SLUICE_AUTH__SECRET_FILE=%s SLUICE_OPS__ADDR=%s\n  "+
			"go run . audit\n  go run . sale set %s --stock-add 10 --reason 'ten more found'\n",
		filepath.Join(demoDir, "secret"), d.app.OpsAddr(), d.sale)
}

package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"sluice/app"
	"sluice/configs"
	"sluice/store/redis"
)

func newServeCommand(c *cli) *cobra.Command {
	var roles []string
	var http, ops string
	var sales, topics []string
	var adopt bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run Sluice, or some of its roles, until SIGTERM",
		Long: "serve runs the roles given until SIGTERM or SIGINT. It then finishes what was accepted, for at " +
			"most stop.grace,\nand exits with 0. A second signal ends it at once with 1.",
		Example: "  sluice serve --config configs/production.yaml\n  sluice serve --role worker,notifier --set " +
			"pool.size=16\n  sluice serve --role worker --sales 'flash-*,phone'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			played, err := parseRoles(roles)
			if err != nil {
				return err
			}
			flags := map[string]any{}
			if cmd.Flags().Changed("http") {
				flags["http.addr"] = http
			}
			if cmd.Flags().Changed("ops") {
				flags["ops.addr"] = ops
			}
			if cmd.Flags().Changed("sales") {
				flags["queue.sales"] = sales
			}
			if cmd.Flags().Changed("topics") {
				flags["delay.topics"] = topics
			}
			loaded, err := c.loadSteady(cmd.Context(), flags)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), loaded, played, adopt)
		},
	}
	cmd.Flags().StringSliceVar(&roles, "role", []string{"gateway", "worker", "notifier"},
		"`roles` to play, with commas between")
	cmd.Flags().StringVar(&http, "http", "", "`address` of the public listener, instead of http.addr")
	cmd.Flags().StringVar(&ops, "ops", "", "`address` of the operations listener, instead of ops.addr")
	cmd.Flags().StringSliceVar(&sales, "sales", nil,
		"drain only these sales, `patterns` such as flash-*, instead of queue.sales")
	cmd.Flags().StringSliceVar(&topics, "topics", nil,
		"deliver only these topics, `patterns` such as sms, instead of delay.topics")
	adoptFlag(cmd, &adopt)
	return cmd
}

// adoptFlag adds --adopt, which takes over a Redis that belonged to another database.
func adoptFlag(cmd *cobra.Command, adopt *bool) {
	cmd.Flags().BoolVar(adopt, "adopt-redis", false,
		"take over a Redis that belonged to another database, which this one replaces")
}

func parseRoles(names []string) (app.Roles, error) {
	var r app.Roles
	for _, name := range names {
		switch strings.TrimSpace(name) {
		case "gateway":
			r.Gateway = true
		case "worker":
			r.Worker = true
		case "notifier":
			r.Notifier = true
		default:
			return app.Roles{}, badUsage("--role knows gateway, worker and notifier, got %q", name)
		}
	}
	if r == (app.Roles{}) {
		return app.Roles{}, badUsage("--role names no role, it knows gateway, worker and notifier")
	}
	return r, nil
}

// gcPercent lets the heap grow to three times the live data before it is collected.
const gcPercent = 200

// serve runs the process until ctx ends and stops it in order.
func (c *cli) serve(ctx context.Context, loaded *configs.Loaded, roles app.Roles, adopt bool) error {
	cfg := loaded.Config
	// SIGHUP reloads the configuration. So closing a terminal does not end the process either.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	log := c.logger(cfg.Log)
	redis.LogClient(log)
	// With a few MB of live data the collector would run all the time at full load. GOGC in the environment has
	// priority.
	if c.getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	sluice, err := app.New(ctx, cfg, app.Options{Roles: roles, Log: log, Registry: prometheus.NewRegistry(),
		Now: c.now, Version: c.build().Version,
		Level: &c.level, Loaded: loaded, AdoptRedis: adopt})
	if err == nil {
		err = sluice.Start(ctx)
	}
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			log.Info("told to stop before it was running")
			return nil
		}
		return err
	}
	failed := sluice.Wait(ctx, hangups)
	if failed != nil {
		log.Error("a part has failed: stopping", "error", failed)
	}
	log.Info("stopping", "grace", cfg.Stop.Grace.String())
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Stop.Grace)
	defer cancel()
	if err := errors.Join(failed, sluice.Stop(stop)); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

package app

import (
	"context"
	"errors"

	"sluice/admin"
	"sluice/inventory"
	"sluice/inventory/audit"
)

// mendLine rebuilds the line of a sale that has differed from the ledger for some time, and alerts the operators.
func (a *App) mendLine(ctx context.Context, s audit.Sale) {
	err := a.reconciler.Mend(ctx, s)
	if errors.Is(err, inventory.ErrBusy) {
		return // another instance has done it
	}
	log := a.log.With("sale", s.Sale, "difference", s.Difference, "missing", s.Missing)
	if err != nil {
		log.Error("ledger and line differ, and the line could not be rebuilt", "error", err)
		a.channels.Alerts.Add("the ledger and the line of sale "+s.Sale+" differ, and it was not mended", 1)
		return
	}
	log.Error("ledger and line differed: the line was rebuilt")
	a.channels.Alerts.Add("the ledger and the line of sale "+s.Sale+" differed: its line was rebuilt", 1)
}

func (a *App) checks() []admin.Check {
	checks := []admin.Check{
		{Name: "redis", Ask: a.redis.Ping},
		{Name: "durability", Ask: func(context.Context) error { return a.durability.Check() },
			Note: a.durability.Level},
		{Name: "database", Ask: a.db.Ping},
		{Name: "schema and installation", Ask: func(context.Context) error { return a.guard.Err() }},
		{Name: "settings", Ask: func(context.Context) error { return a.live.Ready() }},
		{Name: "lines", Ask: a.saleCache.Ready},
		// A store that does not answer concerns its topics only: this process goes on serving.
		{Name: "stores of delayed messages", Ask: func(context.Context) error { return nil }, Note: a.delayStores.Note},
	}
	if a.consumer == nil {
		return checks
	}
	return append(checks, admin.Check{Name: "draining", Ask: func(context.Context) error {
		if pause, ok := a.consumer.Paused(); ok {
			return pause
		}
		return nil
	}})
}

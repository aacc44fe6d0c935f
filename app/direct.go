package app

import (
	"context"

	"sluice/inventory"
	"sluice/queue"
	"sluice/settings/live"
	"sluice/store/redis"
)

// OpenSale creates a sale on behalf of actor. When it returns, this process sells it.
func (a *App) OpenSale(ctx context.Context, n inventory.NewSale, actor string) error {
	if _, err := a.catalog.Create(ctx, n, actor); err != nil {
		return err
	}
	if err := a.keeper.Carry(ctx, n.ID); err != nil {
		return err
	}
	return a.book.Refresh(ctx)
}

// Audit compares line and ledger of every sale.
func (a *App) Audit(ctx context.Context) (inventory.Audit, error) { return a.auditor.Run(ctx, "") }

// Name is the instance's among all, as in lists of instances.
func (a *App) Name() string { return a.name }

// Lines are the lines that this process admits to and drains.
func (a *App) Lines() *queue.Lines { return a.lines }

// Live is the configuration that counts now.
func (a *App) Live() *live.Settings { return a.live }

// Redis is the server that this process works on.
func (a *App) Redis() *redis.Store { return a.redis }

package reconcile

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

const (
	rebuildLease = 3 * time.Second // how long a rebuild stays reserved for an instance that is not heard of
	rebuildRenew = time.Second
)

// Rebuild brings the line of a sale back into agreement with the ledger. It counts the tickets that are left in it.
// Meanwhile the sale answers that it is unavailable. It returns ErrBusy when another instance is at it. On a line
// that is in order it changes nothing but the epoch.
func (k *Reconciler) Rebuild(ctx context.Context, id string) error {
	return k.rebuildOf(ctx, id, finding{epoch: anyEpoch, cause: causeAsked})
}

// anyEpoch is that of a line that is rebuilt whatever others have done.
const anyEpoch = -1

// finding is why a line is rebuilt.
type finding struct {
	epoch   int64 // of its sale when it was found wanting
	line    int64 // of the line itself
	running bool  // a rebuild was reserved just before the line was looked at
	cause   string
}

// splitWait is for how long a Redis leaves a line alone that another has loaded since. Its own loading is older. Two
// that both sell, after a partition, would otherwise take the line from each other without end.
const splitWait = 30 * time.Second

// Why a line is rebuilt, as its era says.
const (
	causeMissing    = "missing"    // Redis has none, or lost it
	causeUnfinished = "unfinished" // somebody began a rebuild and did not end it
	causeServer     = "server"     // Redis was restarted or promoted, or is older than what was seen of it
	causeEpoch      = "epoch"      // it is of another loading than the sale's
	causeLedger     = "ledger"     // the database came back without its last commits
	causeDifference = "difference" // ledger and line differed for some time
	causeAsked      = "asked"      // by an operator
)

// rebuildOf rebuilds a line that was found wanting under an epoch. Where another instance has rebuilt it since, it
// returns ErrBusy. What was found says nothing of that line, and shoppers would be kept out again.
func (k *Reconciler) rebuildOf(ctx context.Context, id string, found finding) error {
	if k.owned != nil {
		if err := k.owned(ctx); err != nil {
			return fmt.Errorf("rebuild %s: %w", id, err)
		}
	}
	epoch, err := k.lockRebuild(ctx, id, found)
	if err != nil {
		return err
	}
	release := k.holdRebuild(ctx, id, epoch)
	err = k.rebuild(ctx, id, epoch, found.cause)
	release()
	if err != nil {
		return fmt.Errorf("rebuild %s: %w", id, err)
	}
	return k.reserve(ctx, id, epoch, time.Time{})
}

func (k *Reconciler) rebuild(ctx context.Context, id string, epoch int64, cause string) error {
	started := k.now()
	line := k.lines.Of(id)
	begun, err := line.Begin(ctx, epoch)
	if err != nil {
		return err
	}
	if !begun {
		return inventory.ErrBusy
	}
	killpoint.Pass("rebuild.begun")
	view, err := line.View(ctx)
	if err != nil {
		return err
	}
	left, err := line.Survey(ctx, epoch)
	if err != nil {
		return err
	}
	restored, err := k.restoreLedger(ctx, id, epoch, left)
	if err != nil {
		return err
	}
	ledger, err := k.readLedger(ctx, id)
	if err != nil {
		return err
	}
	if err := k.checkRestored(ctx, ledger, left); err != nil {
		return err
	}
	era, err := k.beginEra(ctx, line, ledger, left, era{SaleID: id, Epoch: epoch, Cause: cause, Server: view.Server,
		Restored: restored.Orders, Refused: restored.Refused})
	if err != nil {
		return err
	}
	if err := line.Restore(ctx, epoch, append(ledger.live, ledger.ended...), left); err != nil {
		return err
	}
	killpoint.Pass("rebuild.restored")
	ledger.sale.Epoch = epoch
	settings := ledger.sale.Settings(ledger.stock.Total, k.capOf(ledger.sale))
	numbers := queue.Reopened{
		Stock: ledger.reservable(left.Tickets), Seq: era.Base, Ledger: ledger.stock.Changes,
		Ended: ledger.endedEarly(left.Tickets) + left.Repeats, Older: ledger.older,
	}
	if err := line.Reopen(ctx, settings, numbers); err != nil {
		return err
	}
	k.log.Info("line rebuilt from the ledger", "sale", id, "epoch", epoch, "cause", cause,
		"tickets", len(left.Tickets), "orders", len(ledger.live),
		"restored", restored.Orders, "refused", restored.Refused, "lost", era.Lost, "took", k.now().Sub(started))
	return nil
}

// lockRebuild raises the epoch above the sale's and the line's, and reserves the rebuild for this instance. The line
// has the higher one when the database came back without its last commits.
func (k *Reconciler) lockRebuild(ctx context.Context, id string, found finding) (int64, error) {
	var epoch int64
	err := k.db.Tx(ctx, func(tx *gorm.DB) error {
		sale, err := inventory.LockSale(tx, id)
		if err != nil {
			return err
		}
		if found.epoch != anyEpoch && (sale.Epoch != found.epoch || found.running && sale.RebuildUntil == 0) {
			return inventory.ErrBusy
		}
		now := k.now()
		// A time further away than any lease was written by a wrong clock.
		if left := time.UnixMilli(sale.RebuildUntil).Sub(now); left > 0 && left <= rebuildLease {
			return inventory.ErrBusy
		}
		// Workers of the old epoch have either committed or are refused from here on: see current.
		var stock inventory.Stock
		if err := store.ForUpdate(tx).Take(&stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		epoch = max(sale.Epoch, found.line) + 1
		return tx.Model(&inventory.Sale{}).Where("id = ?", id).
			Updates(map[string]any{"epoch": epoch, "rebuild_until": now.Add(rebuildLease).UnixMilli()}).Error
	})
	if err != nil {
		return 0, fmt.Errorf("reserve the rebuild of %s: %w", id, err)
	}
	return epoch, nil
}

// reserve keeps the rebuild of an epoch for this instance until then; the zero time ends the reservation.
func (k *Reconciler) reserve(ctx context.Context, id string, epoch int64, until time.Time) error {
	ms := int64(0)
	if !until.IsZero() {
		ms = until.UnixMilli()
	}
	return k.db.Tx(ctx, func(tx *gorm.DB) error {
		return tx.Model(&inventory.Sale{}).Where("id = ? AND epoch = ?", id, epoch).Update("rebuild_until", ms).Error
	})
}

// holdRebuild renews the reservation until the function it returns is called. So the lease can be short: a sale waits
// for it when the instance dies.
func (k *Reconciler) holdRebuild(ctx context.Context, id string, epoch int64) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(rebuildRenew)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				// A failure costs the reservation, not the rebuild: the epoch fences whoever is slower.
				_ = k.reserve(ctx, id, epoch, k.now().Add(rebuildLease))
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Fulfiller turns tickets into orders: one transaction for a batch, several when it does not go through as a whole. A
// ticket may be delivered any number of times; it makes one order and takes its units once. Safe for concurrent use.
type Fulfiller struct {
	db       *store.DB
	sales    *inventory.SaleStore
	cache    *inventory.SaleCache
	deadline time.Duration // of the payment; 0: none
	channels []string
	onCommit func()
	log      *slog.Logger
	now      func() time.Time
	instance string // which process this is, for an order's timeline
	orders   *Inserter
	outbox   *notify.BulkInsert
}

// On names the process that fulfils, for an order's timeline.
func (f *Fulfiller) On(instance string) *Fulfiller {
	f.instance = instance
	return f
}

// FulfillerParts are what a Fulfiller works with.
type FulfillerParts struct {
	DB       *store.DB
	Sales    *inventory.SaleStore
	Cache    *inventory.SaleCache
	Deadline time.Duration // until an order must be paid; 0: it need not be
	Channels []string      // each order's news goes to the outbox for each of them
	OnCommit func()        // called after each commit
	Log      *slog.Logger
	Now      func() time.Time
}

// NewFulfiller returns a handler for the consumer.
func NewFulfiller(p FulfillerParts) *Fulfiller {
	return &Fulfiller{db: p.DB, sales: p.Sales, cache: p.Cache, deadline: p.Deadline, channels: p.Channels,
		onCommit: p.OnCommit, log: p.Log, now: p.Now, orders: NewInserter(p.DB), outbox: notify.NewBulkInsert(p.DB)}
}

// Handle implements worker.Handler.
func (f *Fulfiller) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	sale, err := f.sale(ctx, b.Sale)
	if err != nil {
		return nil, faultOf(err)
	}
	tickets, ordered := closeOrdered(b.Tickets)
	if len(tickets) == 0 {
		return ordered, nil
	}
	outcomes, err := f.fulfilOrHalve(ctx, claimOf(sale, b), tickets)
	return append(outcomes, ordered...), faultOf(err)
}

// fulfilOrHalve fulfils tickets together, or each half by itself when they do not fit as a whole. It takes few
// transactions to find the few that are to blame. With an error, which none of them has caused, come the outcomes so
// far.
func (f *Fulfiller) fulfilOrHalve(ctx context.Context, c claim, tickets []queue.Ticket) ([]queue.Outcome, error) {
	if len(tickets) == 1 {
		one, err := f.fulfilOne(ctx, c, tickets[0])
		if err != nil {
			return nil, err
		}
		return []queue.Outcome{one}, nil
	}
	outcomes, err := f.fulfil(ctx, c, tickets)
	if err == nil || blameless(err) && !store.TooLarge(err) {
		return outcomes, err
	}
	f.log.Info("batch did not fit as a whole: halving it", "sale", c.sale.ID, "tickets", len(tickets), "error", err)
	half := len(tickets) / 2
	first, err := f.fulfilOrHalve(ctx, c, tickets[:half])
	if err != nil {
		return first, err
	}
	second, err := f.fulfilOrHalve(ctx, c, tickets[half:])
	return append(first, second...), err
}

// fulfilOne fulfils one ticket. The error is a fault that the ticket has no part in.
func (f *Fulfiller) fulfilOne(ctx context.Context, c claim, t queue.Ticket) (queue.Outcome, error) {
	outcomes, err := f.fulfil(ctx, c, []queue.Ticket{t})
	switch {
	case err == nil:
		return outcomes[0], nil
	case blameless(err):
		return queue.Outcome{}, err
	case errors.Is(err, inventory.ErrShort):
		return f.fail(ctx, c, t, ReasonSoldOut, queue.OpFail)
	case errors.Is(err, ErrOverLimit):
		return f.fail(ctx, c, t, ReasonLimit, queue.OpFail)
	}
	f.log.Error("ticket failed: it is tried again", "sale", c.sale.ID, "order", t.ID, "attempts", t.Attempts+1,
		"error", err)
	return queue.Outcome{ID: t.ID, Op: queue.OpRetry, Reason: err.Error(), Code: store.Code(err)}, nil
}

// blameless reports an error that is not provably a ticket's: neither its row's own, nor a rule of the sale. So
// tickets of a line that was loaded anew go back, and whoever claims them next has the new epoch.
func blameless(err error) bool {
	return !store.RowFault(err) && !errors.Is(err, inventory.ErrShort) && !errors.Is(err, ErrOverLimit)
}

func (f *Fulfiller) sale(ctx context.Context, id string) (inventory.Sale, error) {
	if e, ok := f.cache.Get(id); ok {
		return e.Sale, nil
	}
	sale, _, err := f.sales.Get(ctx, id)
	return sale, err
}

// fulfil makes the one transaction of a batch. It adds orders and events, and takes the units last, since the stock
// row is hot. It adds orders and news, and takes the units last, since the stock row is hot.
func (f *Fulfiller) fulfil(ctx context.Context, c claim, tickets []queue.Ticket) ([]queue.Outcome, error) {
	if err := f.Prepare(ctx); err != nil {
		return nil, err
	}
	queued, others := partition(tickets)
	made := newOrdersOf(c, queued)
	var outcomes []queue.Outcome
	var change int64
	err := f.db.Tx(ctx, func(tx *gorm.DB) error {
		r := f.begin(tx, c)
		result, err := r.write(made, others)
		if err != nil {
			return err
		}
		if change, err = r.moveStock(result); err != nil {
			return err
		}
		outcomes = result.outcomes
		killpoint.Pass("tx.before-commit")
		return checkBatch(tx, c.sale, result.inserted)
	})
	if err != nil {
		return nil, fmt.Errorf("fulfil %d tickets of %s: %w", len(tickets), c.sale.ID, err)
	}
	killpoint.Pass("tx.committed")
	f.onCommit()
	if len(outcomes) > 0 {
		outcomes[0].Ledger = change // one is enough: the line takes the newest of a batch
	}
	return outcomes, nil
}

// Prepare makes the statements of the hot inserts ready. Handle does so by
// itself; whoever calls it before spares the first batch the wait.
func (f *Fulfiller) Prepare(ctx context.Context) error {
	return errors.Join(f.orders.prepare(ctx), f.outbox.Prepare(ctx))
}

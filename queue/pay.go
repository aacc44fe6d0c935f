package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/luascript"
)

// Cancel ends a ticket at its owner's wish while no worker has it. It returns ErrUnknown for another user's order,
// and ErrBusy while a worker has it. It returns ErrNotWaiting when it was confirmed or has ended: the database knows.
// It returns ErrNotReady while the line is being rebuilt, or when too few replicas acknowledged. The ticket may then
// be cancelled, and calling again tells.
func (l *Line) Cancel(ctx context.Context, id, user string) error {
	k := l.keys
	keys := []string{k.meta, k.stock, k.orders, k.holders, k.wait, k.retry, k.leased, k.cancels}
	n, err := l.changeDurably(ctx, l.scripts.cancel, keys, id, user, l.statusChannel, l.sale, l.stockChannel,
		l.instanceText)
	if err != nil {
		return err
	}
	switch n {
	case 1:
		return nil
	case 0:
		return ErrNotWaiting
	case -1:
		return ErrUnknown
	case -2:
		return ErrBusy
	}
	return ErrNotReady
}

// Ended names a confirmed order that has ended in the database.
type Ended struct {
	ID    string
	State State // Cancelled or Expired
}

// Release gives back the units and slots of confirmed orders that have ended
// in the database. It may be repeated: an order is released once. Ledger is the
// newest change of the ledger that the caller has committed, 0 when it does not
// know. Returns ErrNotReady, having done nothing, while the line is not ready.
func (l *Line) Release(ctx context.Context, ended []Ended, ledger int64) error {
	args := []any{keepDone, l.statusChannel, l.sale, keepReleased, l.stockChannel, ledger}
	for _, e := range ended {
		args = append(args, e.ID, string(e.State))
	}
	k := l.keys
	keys := []string{k.meta, k.stock, k.orders, k.holders, k.done, k.released, k.due, k.cancels}
	return checkReady(l.change(ctx, l.scripts.release, keys, args...))
}

// Pay shows an order as paid, and takes it off the deadlines. To be called
// after the database has it as paid, as often as it takes. It returns
// ErrNotReady, having done nothing, while the line is missing or rebuilt.
func (l *Line) Pay(ctx context.Context, id string, confirmed, paid time.Time) error {
	k := l.keys
	return checkReady(l.change(ctx, l.scripts.pay, []string{k.meta, k.orders, k.due}, id, confirmed.UnixMilli(),
		paid.UnixMilli(), l.statusChannel, l.sale))
}

// Refund shows that a payment of an order must go back, and tells those who
// wait for its news. To be called after the database has it so, as often as it
// takes. It returns ErrNotReady, having done nothing, while the line is missing
// or rebuilt.
func (l *Line) Refund(ctx context.Context, id string) error {
	keys := []string{l.keys.meta, l.keys.orders}
	return checkReady(l.change(ctx, l.scripts.refund, keys, id, l.statusChannel, l.sale))
}

// Overdue is what Line.Overdue hands out.
type Overdue struct {
	Now    time.Time // by Redis' clock
	Unpaid int64     // orders that have a deadline, those handed out included
	IDs    []string
}

// Overdue hands out up to n orders, at most MaxBatch, whose payment deadline has passed. For the
// length of the lease nobody else gets them. Who has dealt with one takes it off by Release, Pay,
// Undue or Postpone. What it leaves comes back. Two callers may still end up with one order when
// the lease was too short: the database decides between them.
func (l *Line) Overdue(ctx context.Context, n int, lease time.Duration) (Overdue, error) {
	found, failed := l.Lines.Overdue(ctx, []string{l.sale}, n, lease)
	return found[l.sale], failed[l.sale]
}

// Overdue hands out the orders of several lines in one round trip; see Line.Overdue. A sale whose line could not be
// asked is among the failed.
func (ls *Lines) Overdue(
	ctx context.Context, sales []string, n int, lease time.Duration) (found map[string]Overdue, failed map[string]error,
) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		calls[i] = luascript.Call{Keys: []string{ls.table.of(sale).due},
			Args: []any{min(n, MaxBatch), lease.Milliseconds()}}
	}
	found, failed = make(map[string]Overdue, len(sales)), map[string]error{}
	for i, a := range ls.scripts.overdue.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		var one Overdue
		if err == nil {
			one, err = readOverdue(sales[i], list)
		}
		if err != nil {
			failed[sales[i]] = err
			continue
		}
		found[sales[i]] = one
	}
	return found, failed
}

func readOverdue(sale string, list []any) (Overdue, error) {
	if len(list) < 2 {
		return Overdue{}, fmt.Errorf("overdue of %s has %d values", sale, len(list))
	}
	o := Overdue{Now: time.UnixMilli(toInt(list[0])).UTC(), Unpaid: toInt(list[1])}
	for _, v := range list[2:] {
		id, _ := v.(string)
		o.IDs = append(o.IDs, id)
	}
	return o, nil
}

// Undue takes orders off the deadlines that have none.
func (l *Line) Undue(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	members := make([]any, len(ids))
	for i, id := range ids {
		members[i] = id
	}
	if err := l.rdb.ZRem(ctx, l.keys.due, members...).Err(); err != nil {
		return fmt.Errorf("take %d orders of %s off the deadlines: %w", len(ids), l.sale, err)
	}
	return nil
}

// Postpone sets the deadline of an order that still has one to what the
// database says.
func (l *Line) Postpone(ctx context.Context, id string, payBy time.Time) error {
	due := redis.Z{Score: float64(payBy.UnixMilli()), Member: id}
	if err := l.rdb.ZAddXX(ctx, l.keys.due, due).Err(); err != nil {
		return fmt.Errorf("set the deadline of order %s: %w", id, err)
	}
	return nil
}

// Unpaid counts the orders that have a payment deadline.
func (l *Line) Unpaid(ctx context.Context) (int64, error) {
	n, err := l.rdb.ZCard(ctx, l.keys.due).Result()
	if err != nil {
		return 0, fmt.Errorf("count the unpaid orders of %s: %w", l.sale, err)
	}
	return n, nil
}

// ReclaimedUnit is a unit that has been taken again for an expired order. Its batch must be
// settled. OpPaid says that the database has the order as paid, OpEnded that it does not, OpBack
// that nobody knows.
type ReclaimedUnit struct {
	Batch Batch
	Mark  int64 // a sequence of its own, newer than every ticket's
	Slot  int
}

// ReclaimUnit takes a unit and a slot again for an expired order of the database that was paid late. If the caller
// dies, a worker finds out from the database what became of it. It returns ErrSoldOut when no unit is left, and
// ErrHeld when no slot is. It returns ErrNotWaiting when the line knows of another end. It returns ErrBusy while
// somebody else has the order. It returns ErrNotReady when the line is of another epoch or not ready.
func (l *Line) ReclaimUnit(
	ctx context.Context, epoch int64, batch string, lease time.Duration, t Ticket) (ReclaimedUnit, error,
) {
	batch = l.batchName(batch)
	k := l.keys
	reply, err := l.scripts.reclaimUnit.Run(ctx, l.rdb, []string{k.meta, k.stock, k.orders, k.holders, k.lease,
		k.leased,
		k.done, k.recent, k.wait, k.isolated, k.retry},
		epoch, t.ID, t.User, t.Units, t.Seq, t.AdmittedAt.UnixMilli(), t.Fingerprint, t.Position, t.ETASeconds, batch,
		lease.Milliseconds(), k.seen.newestRevision())
	if err != nil {
		return ReclaimedUnit{}, err
	}
	list, ok := reply.([]any)
	if !ok || len(list) == 0 {
		return ReclaimedUnit{}, fmt.Errorf("reclaim a unit for %s of %s answered %T", t.ID, l.sale, reply)
	}
	switch list[0] {
	case "A":
		t.State = Queued
		return ReclaimedUnit{Batch: Batch{ID: batch, Sale: l.sale, Epoch: epoch, Solo: true, Ledger: toInt(list[3]),
			Tickets: []Ticket{t}}, Mark: toInt(list[1]), Slot: int(toInt(list[2]))}, nil
	case "X":
		return ReclaimedUnit{}, ErrNotReady
	case "B":
		return ReclaimedUnit{}, ErrBusy
	case "N":
		return ReclaimedUnit{}, ErrNotWaiting
	case "L":
		return ReclaimedUnit{}, ErrHeld
	case "S":
		return ReclaimedUnit{}, ErrSoldOut
	}
	return ReclaimedUnit{}, fmt.Errorf("reclaim a unit for %s of %s answered %q, which is no answer", t.ID, l.sale,
		list[0])
}

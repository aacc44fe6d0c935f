package queue

import (
	"context"
	"strings"
	"time"

	"sluice/internal/luascript"
)

// leaseOrders is how many order ids of one batch are told.
const leaseOrders = 20

// Lease is a batch that a worker holds.
type Lease struct {
	Batch    string
	Instance string // whose worker it is; empty where that was not said
	Tickets  int64
	Orders   []string // the first of them, at most 20
	Deadline time.Time
	Left     time.Duration // until then; negative once it has run out and nobody has taken the batch over yet
}

// Leases returns up to most batches that workers hold, those first whose lease ends first, after
// skipping some, and how many there are in all.
func (l *Line) Leases(ctx context.Context, skip int64, most int) (leases []Lease, all int64, err error) {
	list, err := l.scripts.leases.RunList(ctx, l.rdb, []string{l.keys.lease, l.keys.leased}, skip, most, leaseOrders)
	if err != nil {
		return nil, 0, err
	}
	now := time.UnixMilli(toInt(list[0]))
	for i := 2; i+3 < len(list); i += 4 {
		name, _ := list[i].(string)
		orders, _ := list[i+3].(string)
		deadline := time.UnixMilli(toInt(list[i+1])).UTC()
		one := Lease{Tickets: toInt(list[i+2]), Deadline: deadline, Left: deadline.Sub(now)}
		one.Instance, one.Batch = ownerOf(name)
		if orders != "" {
			one.Orders = strings.Split(orders, ",")
		}
		leases = append(leases, one)
	}
	return leases, toInt(list[1]), nil
}

// Reclaim takes over up to 16 batches whose lease has run out, as many whose
// lease was given by a clock that has been set back since, and those that have
// none. It returns how many batches and tickets those were.
func (l *Line) Reclaim(ctx context.Context) (batches, tickets int64, err error) {
	keys := []string{l.keys.lease, l.keys.leased, l.keys.suspect, l.keys.attempts, l.keys.lost, l.keys.meta}
	list, err := l.scripts.reclaim.RunList(ctx, l.rdb, keys, 16, keepLost, keepStepsFor.Milliseconds())
	if err != nil {
		return 0, 0, err
	}
	return toInt(list[0]), toInt(list[1]), nil
}

// longestDelay bounds the delay of a retry. One that is further away was set before Redis' clock was set back.
const longestDelay = time.Minute

// Promote makes up to n retried tickets claimable whose delay is over, or
// longer than any delay is.
func (l *Line) Promote(ctx context.Context, n int) (int64, error) {
	keys := []string{l.keys.retry, l.keys.suspect, l.keys.meta}
	return l.scripts.promote.RunInt(ctx, l.rdb, keys, n, longestDelay.Milliseconds())
}

// Maintenance says what there is to do in a line that nobody has announced. It
// is a sum of the constants below, as lua/maintenance.lua adds them up.
type Maintenance int64

// The kinds of maintenance.
const (
	Claimable  Maintenance = 1 << iota // tickets wait for a worker
	TakeOver                           // a lease has run out
	PromoteDue                         // the delay of a retry is over
)

// Maintenance asks several lines in one round trip what there is to do. The
// answers are in the order of sales, each with an error of its own.
func (ls *Lines) Maintenance(ctx context.Context, sales []string) ([]Maintenance, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		k := ls.table.of(sale)
		calls[i].Keys = []string{k.wait, k.suspect, k.lease, k.leased, k.retry, k.meta}
		calls[i].Args = []any{longestDelay.Milliseconds()}
	}
	found, failed := make([]Maintenance, len(sales)), make([]error, len(sales))
	for i, reply := range ls.scripts.maintenance.RunEach(ctx, ls.rdb, calls) {
		n, err := reply.Int()
		found[i], failed[i] = Maintenance(n), err
	}
	return found, failed
}

// Loss is a batch that was taken over from its worker, which had died or outlived its lease.
type Loss struct {
	At       time.Time // when it was taken over, by Redis' clock
	Instance string    // whose worker it was; may be empty
}

// Losses returns the batches that were taken over while they held an order, oldest first: of the
// last 50 of its line, and for a week.
func (l *Line) Losses(ctx context.Context, id string) ([]Loss, error) {
	list, err := l.scripts.reclaimed.RunList(ctx, l.rdb, []string{l.keys.lost}, id)
	if err != nil {
		return nil, err
	}
	var losses []Loss
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i+1].(string)
		instance, _ := ownerOf(name)
		losses = append(losses, Loss{At: time.UnixMilli(toInt(list[i])).UTC(), Instance: instance})
	}
	return losses, nil
}

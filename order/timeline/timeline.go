// Package timeline tells operators what happened to an order. It reads the journal of attempts that went wrong, and
// what both stores keep anyway.
package timeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/fleet"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/queue"
	"sluice/store"
)

// Event is one step of an order's way.
type Event struct {
	At time.Time // when it ended; by Redis' clock for the admission, by the instance's for what workers did
	// admitted, claimed, an attempt's end, a final state, an operator's action, payment OUTCOME, or notify CHANNEL
	// EVENT
	Step     string
	Took     time.Duration // 0 where it is not known
	Attempt  int           // 0 where there is but one
	Instance string        // the process; empty where nobody knows
	Actor    string        // the operator; empty for what Sluice did
	Reason   string

	by int64 // the process by its number, until it is named
}

// Timeline is what happened to one order, oldest first.
type Timeline struct {
	Order  order.View
	Events []Event
}

// Timelines tells what happened to orders. Safe for concurrent use.
type Timelines struct {
	db       *store.DB
	lines    *queue.Lines
	finder   *lookup.Finder
	registry *fleet.Registry
}

// NewTimelines returns the timelines of all orders.
func NewTimelines(db *store.DB, lines *queue.Lines, finder *lookup.Finder) *Timelines {
	return &Timelines{db: db, lines: lines, finder: finder, registry: fleet.NewRegistry(db)}
}

// Of returns the timeline of one order of any user, or order.ErrNotFound. Deliveries are known until the outbox forgets
// them (notify.keep).
func (t *Timelines) Of(ctx context.Context, id string) (Timeline, error) {
	view, err := t.finder.ByID(ctx, id)
	if err != nil {
		return Timeline{}, err
	}
	return t.read(ctx, view)
}

// ByUser returns the timelines of a page of a user's orders, newest first; after is nil for the first page.
func (t *Timelines) ByUser(ctx context.Context, user string, after *lookup.Cursor, limit int) ([]Timeline,
	lookup.Page, error) {
	page, err := t.finder.ListByUser(ctx, user, after, limit)
	if err != nil {
		return nil, lookup.Page{}, err
	}
	timelines := make([]Timeline, len(page.Orders))
	for i, v := range page.Orders {
		if timelines[i], err = t.read(ctx, v); err != nil {
			return nil, lookup.Page{}, err
		}
	}
	return timelines, page, nil
}

// read returns the timeline of an order.
func (t *Timelines) read(ctx context.Context, v order.View) (Timeline, error) {
	var rows []order.Row
	if err := t.db.Read.WithContext(ctx).Where("id = ?", v.ID).Limit(1).Find(&rows).Error; err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	events := append(t.attempts(ctx, v), Event{At: v.AdmittedAt, Step: "admitted", by: v.AdmittedBy})
	for _, r := range rows {
		events = append(events, statesOf(r)...)
	}
	payments, err := t.payments(ctx, v.ID)
	if err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	events = addPayments(events, payments, v.AdmittedAt)
	for _, more := range []func(context.Context, string) ([]Event, error){t.operators, t.deliveries} {
		found, err := more(ctx, v.ID)
		if err != nil {
			return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
		}
		events = append(events, found...)
	}
	if err := t.nameInstances(ctx, events); err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(a.At.Compare(b.At),
			cmp.Compare(rank(a), rank(b)))
	})
	return Timeline{Order: v, Events: events}, nil
}

// stepUnread stands for the attempts of a line that cannot be read. What the database knows is shown all the same.
const stepUnread = "steps not read"

// attempts returns the attempts that the order's line remembers.
func (t *Timelines) attempts(ctx context.Context, v order.View) []Event {
	line := t.lines.Of(v.SaleID)
	steps, err := line.Steps(ctx, v.ID)
	reclaimed, err2 := line.ReclaimedBatches(ctx, v.ID)
	events := attemptsOf(steps, reclaimed)
	if err := errors.Join(err, err2); err != nil {
		events = append(events, Event{At: v.AdmittedAt, Step: stepUnread, Reason: err.Error()})
	}
	return events
}

// nameInstances says which process a number is. One that is no longer remembered keeps its number.
func (t *Timelines) nameInstances(ctx context.Context, events []Event) error {
	var numbers []int64
	for i := range events {
		e := &events[i]
		e.by = cmp.Or(order.InstanceOf(e.Instance), e.by)
		if e.by != 0 {
			numbers = append(numbers, e.by)
		}
	}
	names, err := t.registry.Names(ctx, numbers)
	for i := range events {
		if e := &events[i]; e.by != 0 {
			e.Instance = cmp.Or(names[e.by], order.InstanceMark(e.by))
		}
	}
	return err
}

// rank puts what happened within one millisecond into its order.
func rank(e Event) int {
	switch {
	case e.Step == "admitted":
		return 0
	case e.Step == "claimed":
		return 1
	case strings.HasPrefix(e.Step, "notify "):
		return 4
	case e.Attempt > 0:
		return 2
	}
	return 3
}

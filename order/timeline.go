package order

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Event is one step of an order's way.
type Event struct {
	At       time.Time     // when it ended; by Redis' clock for the admission, by the instance's for what workers did
	Step     string        // admitted, claimed, an attempt's end, a final state, an operator's action, payment OUTCOME, or notify CHANNEL EVENT
	Took     time.Duration // 0 where it is not known
	Attempt  int           // 0 where there is but one
	Instance string        // the process, or the end of its name; may be empty
	Actor    string        // the operator; empty for what Sluice did
	Reason   string
}

// Timeline is what happened to one order, oldest first.
type Timeline struct {
	Order  View
	Events []Event
}

// Timelines tells what happened to orders, from what both stores keep anyway
// and the journal of what went wrong. Safe for concurrent use.
type Timelines struct {
	db     *store.DB
	lines  *queue.Lines
	finder *Finder
}

// NewTimelines returns the timelines of all orders.
func NewTimelines(db *store.DB, lines *queue.Lines, finder *Finder) *Timelines {
	return &Timelines{db: db, lines: lines, finder: finder}
}

// Of returns the timeline of one order of any user, or ErrNotFound. Deliveries
// are known until the outbox forgets them (notify.keep).
func (t *Timelines) Of(ctx context.Context, id string) (Timeline, error) {
	view, err := t.finder.ByID(ctx, id)
	if err != nil {
		return Timeline{}, err
	}
	return t.tell(ctx, view)
}

// ByUser returns the timelines of up to limit orders of a user, newest first; after is nil for the first page. The second result is
// the cursor of the next page, nil on the last.
func (t *Timelines) ByUser(ctx context.Context, user string, after *Cursor, limit int) ([]Timeline, *Cursor, error) {
	views, next, err := t.finder.ListByUser(ctx, user, after, limit)
	if err != nil {
		return nil, nil, err
	}
	timelines := make([]Timeline, len(views))
	for i, v := range views {
		if timelines[i], err = t.tell(ctx, v); err != nil {
			return nil, nil, err
		}
	}
	return timelines, next, nil
}

func (t *Timelines) tell(ctx context.Context, v View) (Timeline, error) {
	var rows []Row
	if err := t.db.Read.WithContext(ctx).Where("id = ?", v.ID).Limit(1).Find(&rows).Error; err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	steps, err := t.lines.Of(v.SaleID).Steps(ctx, v.ID)
	if err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	events := append(attempts(steps), Event{At: v.AdmittedAt, Step: "admitted"})
	for _, r := range rows {
		events = append(events, states(r)...)
	}
	for _, more := range []func(context.Context, string) ([]Event, error){t.operators, t.payments, t.deliveries} {
		found, err := more(ctx, v.ID)
		if err != nil {
			return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
		}
		events = append(events, found...)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(rank(a), rank(b))) })
	return Timeline{Order: v, Events: events}, nil
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

// states are the events that an order's row holds. The tag of its transaction says when a worker began and which.
func states(r Row) []Event {
	var events []Event
	began, instance := readTag(r.BatchID)
	admitted := atMS(r.AdmittedAt)
	if !began.IsZero() {
		events = append(events, Event{At: began, Step: "claimed", Took: max(began.Sub(admitted), 0), Instance: instance})
	}
	if confirmed := atMS(r.ConfirmedAt); !confirmed.IsZero() {
		events = append(events, Event{At: confirmed, Step: Confirmed, Took: max(confirmed.Sub(admitted), 0), Instance: instance})
	}
	if paid := atMS(r.PaidAt); !paid.IsZero() {
		events = append(events, Event{At: paid, Step: Paid, Took: max(paid.Sub(atMS(r.ConfirmedAt)), 0)})
	}
	if ended := atMS(r.EndedAt); !ended.IsZero() {
		events = append(events, Event{At: ended, Step: r.Status, Took: max(ended.Sub(admitted), 0), Reason: r.Reason})
	}
	return events
}

// attempts are the journal's. A number that is missing is an attempt whose worker could not note it any more.
func attempts(steps []queue.Step) []Event {
	var events []Event
	last := 0
	for _, s := range steps {
		for n := last + 1; n < s.Attempt; n++ {
			events = append(events, Event{At: s.At.Add(-s.Took), Step: "lost", Attempt: n, Reason: "its worker died or outlived its lease"})
		}
		last = s.Attempt
		events = append(events, Event{At: s.At, Step: s.What, Took: s.Took, Attempt: s.Attempt, Instance: s.Instance, Reason: s.Reason})
	}
	return events
}

func (t *Timelines) payments(ctx context.Context, id string) ([]Event, error) {
	return paymentsOf(t.db.Read.WithContext(ctx), id)
}

func (t *Timelines) operators(ctx context.Context, id string) ([]Event, error) {
	var entries []struct {
		At                    int64
		Actor, Action, Reason string
	}
	err := t.db.Read.WithContext(ctx).Table("admin_log").Select("at", "actor", "action", "reason").
		Where("target = ?", id).Order("id DESC").Limit(100).Find(&entries).Error
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i] = Event{At: atMS(e.At), Step: e.Action, Actor: e.Actor, Reason: e.Reason}
	}
	return events, err
}

func (t *Timelines) deliveries(ctx context.Context, id string) ([]Event, error) {
	var rows []notify.Row
	if err := t.db.Read.WithContext(ctx).Where("order_id = ?", id).Limit(100).Find(&rows).Error; err != nil {
		return nil, err
	}
	events := make([]Event, len(rows))
	for i, r := range rows {
		e := Event{At: atMS(r.CreatedAt), Step: "notify " + r.Channel + " " + r.Event, Attempt: r.Attempts, Reason: r.LastError}
		switch r.State {
		case notify.StateDelivered:
			e.At, e.Took = atMS(r.DeliveredAt), atMS(r.DeliveredAt).Sub(e.At)
		case notify.StateDead:
			e.At, e.Reason = atMS(r.NextAt), "given up: "+r.LastError
		default:
			e.Reason = "next try at " + atMS(r.Due()).Format(time.RFC3339) + strings.TrimRight(": "+r.LastError, ": ")
		}
		events[i] = e
	}
	return events, nil
}

package order

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/inventory"
	"sluice/notify"
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
	Order  View
	Events []Event
}

// Timelines tells what happened to orders, from what both stores keep anyway
// and the journal of what went wrong. Safe for concurrent use.
type Timelines struct {
	db       *store.DB
	lines    *queue.Lines
	finder   *Finder
	registry *inventory.Registry
}

// NewTimelines returns the timelines of all orders.
func NewTimelines(db *store.DB, lines *queue.Lines, finder *Finder) *Timelines {
	return &Timelines{db: db, lines: lines, finder: finder, registry: inventory.NewRegistry(db)}
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

// ByUser returns the timelines of a page of a user's orders, newest first; after is nil for the first page.
func (t *Timelines) ByUser(ctx context.Context, user string, after *Cursor, limit int) ([]Timeline, Page, error) {
	page, err := t.finder.ListByUser(ctx, user, after, limit)
	if err != nil {
		return nil, Page{}, err
	}
	timelines := make([]Timeline, len(page.Orders))
	for i, v := range page.Orders {
		if timelines[i], err = t.tell(ctx, v); err != nil {
			return nil, Page{}, err
		}
	}
	return timelines, page, nil
}

func (t *Timelines) tell(ctx context.Context, v View) (Timeline, error) {
	var rows []Row
	if err := t.db.Read.WithContext(ctx).Where("id = ?", v.ID).Limit(1).Find(&rows).Error; err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	events := append(t.noted(ctx, v), Event{At: v.AdmittedAt, Step: "admitted", by: v.admittedBy})
	for _, r := range rows {
		events = append(events, states(r)...)
	}
	paying, err := t.payments(ctx, v.ID)
	if err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	events = paying.into(events, v.AdmittedAt)
	for _, more := range []func(context.Context, string) ([]Event, error){t.operators, t.deliveries} {
		found, err := more(ctx, v.ID)
		if err != nil {
			return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
		}
		events = append(events, found...)
	}
	if err := t.name(ctx, events); err != nil {
		return Timeline{}, fmt.Errorf("timeline of %s: %w", v.ID, err)
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(a.At.Compare(b.At),
			cmp.Compare(rank(a), rank(b)))
	})
	return Timeline{Order: v, Events: events}, nil
}

// stepUnread stands for what a line has noted and cannot be asked for: what the database knows is told all the same.
const stepUnread = "steps not read"

// noted are the attempts that the order's line remembers.
func (t *Timelines) noted(ctx context.Context, v View) []Event {
	line := t.lines.Of(v.SaleID)
	steps, err := line.Steps(ctx, v.ID)
	losses, err2 := line.Losses(ctx, v.ID)
	events := attempts(steps, losses)
	if err := errors.Join(err, err2); err != nil {
		events = append(events, Event{At: v.AdmittedAt, Step: stepUnread, Reason: err.Error()})
	}
	return events
}

// name says which process a number is. One that is no longer remembered keeps its number.
func (t *Timelines) name(ctx context.Context, events []Event) error {
	var numbers []int64
	for i := range events {
		e := &events[i]
		if text, ok := strings.CutPrefix(e.Instance, instanceMark); ok {
			e.by, _ = strconv.ParseInt(text, 10, 64)
		}
		if e.by != 0 {
			numbers = append(numbers, e.by)
		}
	}
	names, err := t.registry.Names(ctx, numbers)
	for i := range events {
		if e := &events[i]; e.by != 0 {
			e.Instance = cmp.Or(names[e.by], InstanceMark(e.by))
		}
	}
	return err
}

// instanceMark begins what stands for a process where a text does.
const instanceMark = "#"

// InstanceMark stands for the process of a number where a text does.
func InstanceMark(number int64) string { return instanceMark + strconv.FormatInt(number, 10) }

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
		events = append(events, Event{At: began, Step: "claimed", Took: max(began.Sub(admitted), 0),
			Instance: instance})
	}
	if confirmed := atMS(r.ConfirmedAt); !confirmed.IsZero() {
		events = append(events, Event{At: confirmed, Step: Confirmed, Took: max(confirmed.Sub(admitted), 0),
			Instance: instance})
	}
	if paid := atMS(r.PaidAt); !paid.IsZero() {
		// payments know who took it
		events = append(events, Event{At: paid, Step: Paid, Took: max(paid.Sub(atMS(r.ConfirmedAt)), 0)})
	}
	if ended := atMS(r.EndedAt); !ended.IsZero() {
		e := Event{At: ended, Step: r.Status, Took: max(ended.Sub(admitted), 0), Reason: r.Reason, by: r.EndedBy}
		if r.Status == Failed { // by whoever wrote that
			e.Instance = instance
		}
		events = append(events, e)
	}
	return events
}

// attempts are the journal's, and those whose worker could not note them any more: their numbers are missing there, and
// the line remembers from whom it took them over.
func attempts(steps []queue.Step, losses []queue.Loss) []Event {
	var events []Event
	last, losses := 0, unnoted(losses, steps)
	lose := func(number int, when time.Time) {
		e := Event{At: when, Step: "lost", Attempt: number, Reason: "its worker died or outlived its lease"}
		if len(losses) > 0 {
			e.At, e.Instance, losses = losses[0].At, losses[0].Instance, losses[1:]
		}
		events = append(events, e)
	}
	for _, s := range steps {
		for n := last + 1; n < s.Attempt; n++ {
			lose(n, s.At.Add(-s.Took))
		}
		last = s.Attempt
		events = append(events, Event{At: s.At, Step: s.What, Took: s.Took, Attempt: s.Attempt, Instance: s.Instance,
			Reason: s.Reason})
	}
	for len(losses) > 0 {
		last++
		lose(last, losses[0].At)
	}
	return events
}

// unnoted leaves out losses that the journal has as attempts that panicked, of which the worker could not settle them
// either: so many as there are more losses than attempts missing in the journal.
func unnoted(losses []queue.Loss, steps []queue.Step) (left []queue.Loss) {
	more := len(losses)
	if n := len(steps); n > 0 {
		more -= steps[n-1].Attempt - n
	}
	taken := make(map[int]bool, len(steps))
	for _, l := range losses {
		noted := -1
		for i, s := range steps {
			before := !s.At.Truncate(time.Millisecond).After(l.At) // Redis tells no more than milliseconds
			if s.What == stepPanicked && !taken[i] && (l.Instance == "" || s.Instance == l.Instance) && before {
				noted = i
			}
		}
		if more <= 0 || noted < 0 {
			left = append(left, l)
			continue
		}
		taken[noted] = true
		more--
	}
	return left
}

func (t *Timelines) operators(ctx context.Context, id string) ([]Event, error) {
	var entries []struct {
		At                    int64
		Actor, Action, Reason string
		Instance              int64
	}
	err := t.db.Read.WithContext(ctx).Table("admin_log").Select("at", "actor", "action", "reason", "instance").
		Where("target = ?", id).Order("id DESC").Limit(100).Find(&entries).Error
	events := make([]Event, len(entries))
	for i, e := range entries {
		events[i] = Event{At: atMS(e.At), Step: e.Action, Actor: e.Actor, Reason: e.Reason, by: e.Instance}
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
		e := Event{At: atMS(r.CreatedAt), Step: "notify " + r.Channel + " " + r.Event, Attempt: r.Attempts,
			Reason: r.LastError, by: r.DeliveredBy}
		switch r.State {
		case notify.StateDelivered:
			e.At, e.Took = atMS(r.DeliveredAt), atMS(r.DeliveredAt).Sub(e.At)
		case notify.StateOvertaken:
			e.At = atMS(r.DeliveredAt)
		case notify.StateDead:
			e.At, e.Reason = atMS(r.NextAt), "given up: "+r.LastError
		default:
			e.Reason = "next try at " + atMS(r.Due()).Format(time.RFC3339) + strings.TrimRight(": "+r.LastError, ": ")
		}
		events[i] = e
	}
	return events, nil
}

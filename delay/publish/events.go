package publish

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
	"sluice/notify"
	"sluice/notify/form"
)

// Events is the channel "topics": it makes messages of order events, for each topic that asks for them. A message has
// the id of its event, so an event that the outbox delivers twice is one message.
type Events struct {
	topics    *delay.Topics
	publisher *Publisher
	ledger    notify.Ledger
	log       *slog.Logger
	now       func() time.Time
	pauses    *apart.Pauses // of topics that hung
}

// EventsParts is what NewEvents needs.
type EventsParts struct {
	Topics    *delay.Topics
	Publisher *Publisher
	Ledger    notify.Ledger // what is known of the orders
	Log       *slog.Logger
	Now       func() time.Time
}

// NewEvents returns the channel. Rows are queued under it only where Config.OrderEvents says so.
func NewEvents(p EventsParts) *Events {
	return &Events{topics: p.Topics, publisher: p.Publisher, ledger: p.Ledger, log: p.Log, now: p.Now,
		pauses: apart.NewPauses(p.Now, firstBackoff, longestBackoff)}
}

const (
	slowAdd        = 500 * time.Millisecond // a failed add that took longer counts as hung
	firstBackoff   = time.Second            // how long its topic is left alone after the first failure
	longestBackoff = 30 * time.Second       // and after many
	lookUpPause    = 5 * time.Second        // of all topics, when the orders could not be looked up
)

// Name returns "topics".
func (e *Events) Name() string { return "topics" }

// Deliver adds each event to every topic that asks for it, one call per topic, all at once. The events that one topic
// refuses are retried. Other topics recognise the repeat and ignore it. An event whose id a topic knows with another
// body is given up alone.
func (e *Events) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	// A topic that another process created a moment ago must not miss later events.
	if err := e.topics.Refresh(ctx); err != nil {
		return alike(len(messages), notify.Retry("topics: "+err.Error()))
	}
	results := alike(len(messages), notify.Delivered())
	wanted := e.wantedBy(messages)
	if len(wanted) == 0 {
		return results
	}
	events, err := e.eventsOf(ctx, messages)
	if err != nil {
		e.log.WarnContext(ctx, "orders not looked up, their events wait", "events", len(messages), "error", err)
		return alike(len(messages), notify.Hold(lookUpPause, "the order could not be looked up"))
	}
	var adding sync.WaitGroup
	var mu sync.Mutex
	for t, places := range wanted {
		adding.Go(func() {
			conflicts, err := e.addAll(ctx, t, events, places)
			mu.Lock()
			defer mu.Unlock()
			for _, at := range places {
				if err != nil {
					results[at] = notify.Retry("topic " + t.Name + ": " + err.Error())
				}
			}
			for _, at := range conflicts {
				if results[at] == notify.Delivered() { // else it comes again, for another topic
					results[at] = notify.Permanent("topic " + t.Name + ": " + delay.ErrConflict.Error())
				}
			}
		})
	}
	adding.Wait()
	return results
}

func alike(n int, result notify.Result) []notify.Result {
	return slices.Repeat([]notify.Result{result}, n)
}

// wantedBy returns, by topic, the positions of the messages that it asks for.
func (e *Events) wantedBy(messages []notify.Message) map[delay.Topic][]int {
	wanted := map[delay.Topic][]int{}
	for _, t := range e.topics.All() {
		events := t.EventList()
		for i, m := range messages {
			if slices.Contains(events, m.Event) {
				wanted[t] = append(wanted[t], i)
			}
		}
	}
	return wanted
}

// orderEvent is one event as a message of a topic; its delay is the topic's.
type orderEvent struct {
	message delay.New
	bare    []byte // the body that versions before form.Version gave it
}

// eventsOf returns what the messages tell of.
func (e *Events) eventsOf(ctx context.Context, messages []notify.Message) ([]orderEvent, error) {
	ids := make([]string, len(messages))
	for i, m := range messages {
		ids[i] = m.OrderID
	}
	orders, err := e.ledger(ctx, ids)
	if err != nil {
		return nil, err
	}
	events := make([]orderEvent, len(messages))
	for i, m := range messages {
		body, err := json.Marshal(form.In(orders, m))
		bare, err2 := json.Marshal(form.Bare(m))
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		events[i] = orderEvent{delay.New{ID: m.ID(), Body: body, Event: m.Event, Sale: m.SaleID}, bare}
	}
	return events, nil
}

// addAll adds events to one topic, and returns the places of those that it knows with another body. A topic
// that hung a moment ago is not tried: the others would wait for it.
func (e *Events) addAll(ctx context.Context, t delay.Topic, events []orderEvent, places []int,
) (conflicts []int, err error) {
	if e.pauses.Left(t.Name) > 0 {
		return nil, errBackingOff
	}
	began := e.now()
	err = apart.Try(func() error {
		for some := range slices.Chunk(places, delay.MaxBatch) {
			bad, err := e.add(ctx, t, events, some)
			if err != nil {
				return err
			}
			conflicts = append(conflicts, bad...)
		}
		return nil
	})
	hung := err
	if e.now().Sub(began) < slowAdd {
		hung = nil
	}
	e.pauses.Note(t.Name, hung)
	return conflicts, err
}

var errBackingOff = errors.New("it did not answer a moment ago")

// add adds events to a topic, and returns the places of those whose ids were taken by other messages. One that an older
// version has added is known in its bare form: it is there.
func (e *Events) add(ctx context.Context, t delay.Topic, events []orderEvent, places []int,
) (conflicts []int, err error) {
	list := make([]delay.New, len(places))
	for i, at := range places {
		list[i] = events[at].message
		list[i].Delay = t.Delay()
	}
	taken, err := e.addUntaken(ctx, t.Name, list)
	if err == nil && len(taken) > 0 {
		bare := make([]delay.New, len(taken))
		for i, place := range taken {
			bare[i] = list[place]
			bare[i].Body = events[places[place]].bare
		}
		var others []int
		others, err = e.addUntaken(ctx, t.Name, bare)
		for _, i := range others {
			conflicts = append(conflicts, places[taken[i]])
		}
	}
	if len(conflicts) > 0 {
		e.log.ErrorContext(ctx, "order events given up: their ids were taken by other messages", "topic", t.Name,
			"events", len(conflicts), "first", events[conflicts[0]].message.ID)
	}
	if errors.Is(err, delay.ErrNoTopic) {
		err = e.deleted(ctx, t.Name)
	}
	return conflicts, err
}

// addUntaken adds messages but those that the topic knows with another body. It names these all at once by their
// places.
func (e *Events) addUntaken(ctx context.Context, topic string, list []delay.New) (taken []int, err error) {
	_, _, err = e.publisher.add(ctx, topic, list)
	known, some := errors.AsType[message.ConflictError](err)
	if !some {
		return nil, err
	}
	if list = without(list, known.Places); len(list) > 0 {
		_, _, err = e.publisher.add(ctx, topic, list)
		return known.Places, err
	}
	return known.Places, nil
}

// deleted returns nil where the topic is deleted: nobody asks for its events any more. One whose deletion failed half
// way takes no messages for a while, and must not lose them.
func (e *Events) deleted(ctx context.Context, topic string) error {
	if err := e.topics.Refresh(ctx); err != nil {
		return err
	}
	if _, exists := e.topics.Snapshot().Topic(topic); exists {
		return errors.New("it takes no messages at the moment")
	}
	return nil
}

func without(list []delay.New, places []int) []delay.New {
	kept := make([]delay.New, 0, len(list))
	for i, m := range list {
		if !slices.Contains(places, i) {
			kept = append(kept, m)
		}
	}
	return kept
}

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
)

// Events is the channel "topics": it makes messages of order events, for each topic that asks for them. A message has
// the id of its event, so an event that the outbox delivers twice is one message.
type Events struct {
	topics    *delay.Topics
	publisher *Publisher
	log       *slog.Logger
	now       func() time.Time
	pauses    *apart.Pauses // of topics that hung
}

// EventsParts is what NewEvents needs.
type EventsParts struct {
	Topics    *delay.Topics
	Publisher *Publisher
	Log       *slog.Logger
	Now       func() time.Time
}

// NewEvents returns the channel. Rows are queued under it only where Config.OrderEvents says so.
func NewEvents(p EventsParts) *Events {
	return &Events{topics: p.Topics, publisher: p.Publisher, log: p.Log, now: p.Now,
		pauses: apart.NewPauses(p.Now, firstBackoff, longestBackoff)}
}

const (
	slowAdd        = 500 * time.Millisecond // a failed add that took longer counts as hung
	firstBackoff   = time.Second            // how long its topic is left alone after the first failure
	longestBackoff = 30 * time.Second       // and after many
)

// Name returns "topics".
func (e *Events) Name() string { return "topics" }

// event is the body of a message about an order. It contains no e-mail address and no phone number.
type event struct {
	Type      string    `json:"type"`
	Timestamp string    `json:"timestamp"` // RFC 3339, UTC
	Data      eventData `json:"data"`
}

type eventData struct {
	OrderID string `json:"order_id"`
	SaleID  string `json:"sale_id"`
	UserID  string `json:"user_id"`
}

// Deliver adds each event to every topic that asks for it, one call per topic, all at once. The events that one topic
// refuses are retried. Other topics recognise the repeat and ignore it. An event whose id a topic knows with another
// body is given up alone.
func (e *Events) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	results := make([]notify.Result, len(messages))
	for i := range results {
		results[i] = notify.Delivered()
	}
	// A topic that another process created a moment ago must not miss later events.
	if err := e.topics.Refresh(ctx); err != nil {
		for i := range results {
			results[i] = notify.Retry("topics: " + err.Error())
		}
		return results
	}
	var adding sync.WaitGroup
	var mu sync.Mutex
	for _, t := range e.topics.All() {
		wanted := e.selectWanted(t, messages)
		if len(wanted) == 0 {
			continue
		}
		adding.Go(func() {
			conflicts, err := e.addAll(ctx, t, messages, wanted)
			mu.Lock()
			defer mu.Unlock()
			for _, at := range wanted {
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

// selectWanted returns the positions of the messages that t asks for.
func (e *Events) selectWanted(t delay.Topic, messages []notify.Message) []int {
	var places []int
	events := t.EventList()
	for i, m := range messages {
		if slices.Contains(events, m.Event) {
			places = append(places, i)
		}
	}
	return places
}

// addAll adds events to one topic, and returns the places of those that it knows with another body. A topic
// that hung a moment ago is not tried: the others would wait for it.
func (e *Events) addAll(ctx context.Context, t delay.Topic, messages []notify.Message, places []int,
) (conflicts []int, err error) {
	if e.pauses.Left(t.Name) > 0 {
		return nil, errBackingOff
	}
	began := e.now()
	err = apart.Try(func() error {
		for some := range slices.Chunk(places, delay.MaxBatch) {
			bad, err := e.add(ctx, t, messages, some)
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

// add leaves out those that are in conflict, which the topic names all at once.
func (e *Events) add(ctx context.Context, t delay.Topic, messages []notify.Message, places []int,
) (conflicts []int, err error) {
	list, err := eventsOf(t, messages, places)
	if err != nil {
		return nil, err
	}
	_, _, err = e.publisher.add(ctx, t.Name, list)
	if known, some := errors.AsType[message.ConflictError](err); some {
		for _, i := range known.Places {
			conflicts = append(conflicts, places[i])
		}
		e.log.ErrorContext(ctx, "order events given up: their ids were taken by other messages", "topic", t.Name,
			"events", len(conflicts), "first", known.First)
		err = nil
		if list = without(list, known.Places); len(list) > 0 {
			_, _, err = e.publisher.add(ctx, t.Name, list)
		}
	}
	if errors.Is(err, delay.ErrNoTopic) {
		err = e.deleted(ctx, t.Name)
	}
	return conflicts, err
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

// eventsOf returns the messages that tell of events.
func eventsOf(t delay.Topic, messages []notify.Message, places []int) ([]delay.New, error) {
	list := make([]delay.New, len(places))
	for i, at := range places {
		m := messages[at]
		body, err := json.Marshal(event{Type: m.Event, Timestamp: m.CreatedAt.UTC().Format(time.RFC3339Nano),
			Data: eventData{OrderID: m.OrderID, SaleID: m.SaleID, UserID: m.UserID}})
		if err != nil {
			return nil, err
		}
		list[i] = delay.New{ID: m.ID(), Delay: t.Delay(), Body: body, Event: m.Event, Sale: m.SaleID}
	}
	return list, nil
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

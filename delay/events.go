package delay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sluice/notify"
)

// Events is the channel "topics": order events become messages of the topics that ask for them. A message's id is the event's, so
// an event delivered twice by the outbox is one message.
type Events struct {
	topics *Topics
	box    *Box
}

// NewEvents returns the channel. Rows are queued under it only where Config.OrderEvents says so.
func NewEvents(topics *Topics, box *Box) *Events { return &Events{topics: topics, box: box} }

// Name is "topics".
func (e *Events) Name() string { return "topics" }

// event is the body of a message that tells of an order. It holds no e-mail address and no phone number.
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

// Deliver adds each event to every topic that asks for it, one call per topic. Where a topic refuses, its events are retried;
// other topics know them by then and ignore the repeat.
func (e *Events) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	results := make([]notify.Result, len(messages))
	for i := range results {
		results[i] = notify.Delivered()
	}
	// A topic created or changed a moment ago in another process must not miss what comes after it.
	if err := e.topics.Refresh(ctx); err != nil {
		for i := range results {
			results[i] = notify.Retry("topics: " + err.Error())
		}
		return results
	}
	for _, t := range e.topics.All() {
		wanted := e.wanted(t, messages)
		for start := 0; start < len(wanted); start += maxBatch {
			e.add(ctx, t, messages, wanted[start:min(start+maxBatch, len(wanted))], results)
		}
	}
	return results
}

// wanted is the places of the messages that t asks for.
func (e *Events) wanted(t Topic, messages []notify.Message) []int {
	var places []int
	events := t.EventList()
	for i, m := range messages {
		if slices.Contains(events, m.Event) {
			places = append(places, i)
		}
	}
	return places
}

func (e *Events) add(ctx context.Context, t Topic, messages []notify.Message, places []int, results []notify.Result) {
	list := make([]New, len(places))
	for i, at := range places {
		m := messages[at]
		body, err := json.Marshal(event{Type: m.Event, Timestamp: m.CreatedAt.UTC().Format(time.RFC3339Nano),
			Data: eventData{OrderID: m.OrderID, SaleID: m.SaleID, UserID: m.UserID}})
		if err != nil {
			results[at] = notify.Permanent(err.Error())
			return
		}
		list[i] = New{ID: m.ID(), Delay: t.Delay(), Body: body}
	}
	_, err := e.box.Add(ctx, t.Name, list)
	if err == nil || errors.Is(err, ErrNoTopic) { // deleted this moment: nobody asks for them any more
		return
	}
	for _, at := range places {
		results[at] = notify.Retry("topic " + t.Name + ": " + err.Error())
	}
}

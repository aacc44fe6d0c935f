package api

import (
	"encoding/json"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Topic is a topic as operators see it; its secret is shown once, in the answer to its creation.
type Topic struct {
	Name        string       `json:"name"`
	URL         string       `json:"url"`
	Method      string       `json:"method"`
	DelayMS     int64        `json:"delay_ms"`
	TimeoutMS   int64        `json:"timeout_ms"`
	Retries     int          `json:"retries"`
	RetryUnitMS int64        `json:"retry_unit_ms"`
	Alert       string       `json:"alert"`
	Owner       string       `json:"owner"`
	Enabled     bool         `json:"enabled"`
	Events      []string     `json:"events"`
	Store       string       `json:"store"` // of its messages
	Lost        int64        `json:"lost"`  // messages that a store no longer knew, at most
	LostAt      string       `json:"lost_at,omitempty"`
	CreatedAt   string       `json:"created_at"`
	UpdatedAt   string       `json:"updated_at"`
	Secret      string       `json:"secret,omitempty"`
	Messages    *TopicCounts `json:"messages,omitempty"`
	Unread      string       `json:"unread,omitempty"` // why its messages could not be counted

	Subscriptions []string `json:"subscriptions"` // by name, its own first
}

// TopicCounts is how many unfinished messages there are.
type TopicCounts struct {
	Pending  int64 `json:"pending"`
	Firing   int64 `json:"firing"`
	Retrying int64 `json:"retrying"`
	Dead     int64 `json:"dead"`
}

// Add adds those of another subscription.
func (c *TopicCounts) Add(o TopicCounts) {
	c.Pending += o.Pending
	c.Firing += o.Firing
	c.Retrying += o.Retrying
	c.Dead += o.Dead
}

// TopicList is all topics.
type TopicList struct {
	Topics []Topic `json:"topics"`
}

// NewMessages adds messages to a topic.
type NewMessages struct {
	Messages []NewMessage `json:"messages"`
	// Reason not null: somebody adds them by hand, and the admin log says so.
	Reason *string `json:"reason"`
}

// NewMessage is one message to be added.
type NewMessage struct {
	ID      string         `json:"id"`
	DelayMS *int64         `json:"delay_ms"`
	At      *time.Time     `json:"at"`
	Event   string         `json:"event"` // for filters
	Sale    string         `json:"sale"`  // for filters
	Body    jsontext.Value `json:"body"`
}

// AddedMessages says when each of the messages is due.
type AddedMessages struct {
	Messages []AddedMessage `json:"messages"`
}

// AddedMessage is a message that was added.
type AddedMessage struct {
	ID    string `json:"id"`
	DueAt string `json:"due_at"`
}

// Message is a message as its sender and operators see it.
type Message struct {
	Topic        string          `json:"topic"`
	Subscription string          `json:"subscription"`
	ID           string          `json:"id"`
	Event        string          `json:"event,omitempty"` // that it was added with, while it is not finished
	Sale         string          `json:"sale,omitempty"`
	State        string          `json:"state"`
	Attempts     int             `json:"attempts"`
	LastError    string          `json:"last_error,omitempty"`
	AddedAt      string          `json:"added_at"`
	FirstDue     string          `json:"first_due_at"`
	DueAt        string          `json:"due_at,omitempty"` // of the next attempt
	EndedAt      string          `json:"ended_at,omitempty"`
	Body         json.RawMessage `json:"body,omitempty"`
	Deliveries   []Message       `json:"deliveries,omitempty"` // in each subscription, where several know it
}

// MessageList is a page of a subscription's messages in a state.
type MessageList struct {
	Messages []Message `json:"messages"`
	Next     int64     `json:"next,omitempty"` // skip for the next page; absent on the last
}

// DeadMessageList is a page of a subscription's dead messages.
type DeadMessageList struct {
	Dead []Message `json:"dead"`
	Next int64     `json:"next,omitempty"` // skip for the next page; absent on the last
}

// Subscription is a subscription as operators see it; its secret is shown once, in the answer to its creation.
type Subscription struct {
	Name        string       `json:"name"`
	Topic       string       `json:"topic"`
	Kind        string       `json:"kind"`
	URL         string       `json:"url,omitempty"`
	Method      string       `json:"method,omitempty"`
	TimeoutMS   int64        `json:"timeout_ms,omitempty"` // push
	LeaseMS     int64        `json:"lease_ms,omitempty"`   // pull
	Retries     int          `json:"retries"`
	RetryUnitMS int64        `json:"retry_unit_ms"`
	Alert       string       `json:"alert"`
	Owner       string       `json:"owner"`
	Enabled     bool         `json:"enabled"`
	Events      []string     `json:"events"` // the only ones it takes; none: all
	Sales       []string     `json:"sales"`  // patterns of the only ones it takes; none: all
	CreatedAt   string       `json:"created_at"`
	UpdatedAt   string       `json:"updated_at"`
	Secret      string       `json:"secret,omitempty"`
	Messages    *TopicCounts `json:"messages,omitempty"`
	Missed      int64        `json:"missed"`                 // messages it had no room for
	Unread      string       `json:"unread,omitempty"`       // why its messages could not be counted
	PausedUntil string       `json:"paused_until,omitempty"` // push: its receiver is left alone until then
	Paused      string       `json:"paused,omitempty"`       // and why
}

// SubscriptionList is all subscriptions, or those of a topic.
type SubscriptionList struct {
	Subscriptions []Subscription `json:"subscriptions"`
}

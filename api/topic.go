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
	CreatedAt   string       `json:"created_at"`
	UpdatedAt   string       `json:"updated_at"`
	Secret      string       `json:"secret,omitempty"`
	Messages    *TopicCounts `json:"messages,omitempty"`
	Unread      string       `json:"unread,omitempty"` // why its messages could not be counted
}

// TopicCounts is how many unfinished messages a topic has.
type TopicCounts struct {
	Pending  int64 `json:"pending"`
	Firing   int64 `json:"firing"`
	Retrying int64 `json:"retrying"`
	Dead     int64 `json:"dead"`
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
	Topic     string          `json:"topic"`
	ID        string          `json:"id"`
	State     string          `json:"state"`
	Attempts  int             `json:"attempts"`
	LastError string          `json:"last_error,omitempty"`
	AddedAt   string          `json:"added_at"`
	FirstDue  string          `json:"first_due_at"`
	DueAt     string          `json:"due_at,omitempty"`
	EndedAt   string          `json:"ended_at,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"`
}

// DeadMessageList is a page of a topic's dead messages.
type DeadMessageList struct {
	Dead []Message `json:"dead"`
	Next int64     `json:"next,omitempty"` // skip for the next page; absent on the last
}

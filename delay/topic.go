// Package delay keeps messages until they are due and then calls the shop's other systems with them.
//
// Topics in the database say where and how. Messages wait in Redis. A dispatcher delivers each at least once over HTTP.
// The body is signed, and the id is the same in every repeat. What cannot be delivered becomes a dead letter.
// Nothing is dropped but by an operator.
package delay

import (
	"cmp"
	"time"
)

// Topic takes messages for its subscriptions. Its own URL, when it has one, is one of them. Times are milliseconds.
type Topic struct {
	Name        string `gorm:"primaryKey"`
	URL         string `gorm:"column:url"`
	Method      string // POST, PUT, PATCH or GET
	DelayMS     int64  `gorm:"column:delay_ms"`   // of messages that name no time of their own
	TimeoutMS   int64  `gorm:"column:timeout_ms"` // of one call
	Retries     int    // calls that may follow a failed first one
	RetryUnitMS int64  `gorm:"column:retry_unit_ms"` // multiplied by 1, 3, 5, … for the wait before each retry
	Alert       string // e-mail address for alerts about dead letters; may be empty
	Owner       string // who answers for the receiver; may be empty
	Enabled     int    // 0: messages wait
	Events      string // order events that become messages, joined by commas
	Secret      string // signs the calls
	OldSecret   string // signs the calls too until OldUntil, unix ms
	OldUntil    int64
	CreatedAt   int64  `gorm:"autoCreateTime:false"`
	UpdatedAt   int64  `gorm:"autoUpdateTime:false"`
	Store       string // name of the store that keeps its messages; empty: the default
	Marks
	Version int64 // raised by each change of the topic or of one of its subscriptions; never lower after a restore
}

// Marks are what is known of the topic's store: by them a loss is found. They are no setting.
type Marks struct {
	Unfinished int64 `json:"-"` // messages of all of its subscriptions, at the last look
	MarkEra    int64 `json:"-"` // raised by each loss and each move: counts of other eras do not compare
	MarkAdded  int64 `json:"-"` // messages that the store has said it has taken, in this era
	MarkBefore int64 `json:"-"` // MarkAdded when the era before ended with a loss
	Lost       int64 `json:"-"` // messages that the store no longer knew, in all
	LostAt     int64 `json:"-"` // when that was last found; 0: never
}

// TableName returns the table of the migrations.
func (Topic) TableName() string { return "delay_topics" }

// On reports whether the topic's URL is called.
func (t Topic) On() bool { return t.Enabled != 0 }

// Delay returns how long a message waits that names no time of its own.
func (t Topic) Delay() time.Duration { return time.Duration(t.DelayMS) * time.Millisecond }

// EventList returns the order events that become messages of this topic.
func (t Topic) EventList() []string { return splitList(t.Events) }

// StoreName returns the name of the store that keeps its messages.
func (t Topic) StoreName() string { return cmp.Or(t.Store, DefaultStore) }

// masked returns the topic without its secrets, for logs.
func (t Topic) masked() Topic {
	t.Secret, t.OldSecret = "", ""
	return t
}

// newTopic returns a topic with the default of every value.
func newTopic(name string, cfg Config, now time.Time) Topic {
	return Topic{Name: name, Method: "POST", TimeoutMS: defaultTimeout(cfg),
		Retries: 10, RetryUnitMS: time.Minute.Milliseconds(), Enabled: 1,
		CreatedAt: now.UnixMilli(), UpdatedAt: now.UnixMilli(), Version: now.UnixMilli(),
		Marks: Marks{MarkEra: now.UnixMilli()}} // other than of one of this name before
}

func defaultTimeout(cfg Config) int64 { return min(10*time.Second, cfg.MaxTimeout()).Milliseconds() }

// changed returns the topic with its next version. It follows the clock, so that a topic which is created again has a
// higher one than it ever had.
func (t Topic) changed(now time.Time) Topic {
	t.Version = max(t.Version+1, now.UnixMilli())
	return t
}

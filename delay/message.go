package delay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/internal/invalid"
)

// The reasons for which topics and messages are refused. A refusal changes nothing.
var (
	ErrNoTopic     = errors.New("no such topic")
	ErrTopicExists = errors.New("a topic with this name exists already")
	ErrManyTopics  = errors.New("there are as many topics as delay.max_topics allows")
	ErrTopicInUse  = errors.New("the topic has unfinished messages: cancel, deliver or drop them first")
	ErrNoMessage   = errors.New("no such message: it never was, or was finished too long ago to be remembered")
	ErrConflict    = errors.New("the message is known with another body or time")
	ErrFull        = errors.New("the topic holds as many unfinished messages as delay.max_messages allows")
	ErrNotWaiting  = errors.New("only a message that waits can be cancelled")
	ErrNotDead     = errors.New("the message is not a dead letter")

	ErrNoSubscription     = errors.New("no such subscription")
	ErrSubscriptionExists = errors.New("a subscription with this name exists already")
	ErrManySubscriptions  = errors.New("the topic has as many subscriptions as delay.max_subscriptions allows")
	ErrSubscriptionInUse  = errors.New("the subscription has unfinished messages: finish them, or give them up with it")
	ErrSubscribed         = errors.New("the topic has subscriptions: delete them first")
	ErrUnsubscribed       = errors.New("the topic has no subscription: nobody would get the message")
	ErrNotPull            = errors.New("the subscription calls its receiver: nobody can ask it for messages")
	ErrBehind             = errors.New("the database does not yet show what was changed of the topic")
)

// maxBatch bounds how many messages one script call takes or returns: what Lua's stack allows.
const maxBatch = 1000

// MaxBody bounds the bytes of a message's body.
const MaxBody = 16 << 10

// New is a message to add. It is due At, or after Delay when At is zero. A time in the past means at once.
type New struct {
	ID    string // unique within its topic: 1 to 128 letters, digits, '-', '_', '.' or ':'
	Delay time.Duration
	At    time.Time
	Body  []byte // JSON, at most MaxBody
	Event string // what it tells of, for filters; may be empty
	Sale  string // the sale it is about, for filters; may be empty
}

// The states of a message.
const (
	Pending   = "pending"
	Firing    = "firing"
	Retrying  = "retrying"
	Delivered = "delivered"
	Dead      = "dead"
	Cancelled = "cancelled"
	Dropped   = "dropped" // a dead letter that an operator gave up
)

// Message is a message as one subscription shows it. Times are by Redis' clock.
type Message struct {
	Topic, ID    string
	Subscription string
	State        string
	Attempts     int // begun
	Error        string
	AddedAt      time.Time
	FirstDue     time.Time
	DueAt        time.Time // of the next attempt, or while firing the lease's end; zero when dead or finished
	EndedAt      time.Time // zero until then
	Body         []byte    // nil once finished
	readErr      error     // why its record cannot be read; Error has the text
}

// delivery is a message that this process alone may deliver until its lease ends.
type delivery struct {
	ID       string
	Attempt  int   // 1 for the first
	Due      int64 // ms by Redis' clock
	Body     []byte
	token    string
	lateness time.Duration // time from Due to the claim
}

// outcome is what settle.lua stores of one call.
type outcome struct {
	ID, token string
	op        byte
	value     int64
	err       string
}

// Reserved reports whether an id is kept for order events, like o1:order.paid. Nobody can add it by hand.
func Reserved(id string) bool {
	at := strings.LastIndex(id, ":order.")
	return at >= 0 && strings.Trim(id[at+len(":order."):], "abcdefghijklmnopqrstuvwxyz_") == ""
}

// The operations of settle.lua.
const (
	opDelivered = 'd'
	opRetry     = 'r'
	opDead      = 'x'
	opBack      = 'b'
)

// maxError bounds how much of an error is stored, in characters.
const maxError = 200

// storable makes any text fit a record: valid UTF-8 without control characters, cut.
func storable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > maxError {
		return string(runes[:maxError])
	}
	return text
}

// checkNew returns an invalid.Error that names every field of the messages that breaks a rule.
func checkNew(messages []New, cfg Config, now time.Time) error {
	if len(messages) == 0 || len(messages) > maxBatch {
		return invalid.Error{{Field: "messages", Detail: fmt.Sprintf("must be 1 to %d", maxBatch)}}
	}
	var bad invalid.Error
	seen := make(map[string]bool, len(messages))
	for i, m := range messages {
		check := func(ok bool, field, detail string) {
			if !ok && len(bad) < 20 {
				bad = append(bad, invalid.Field{Field: fmt.Sprintf("messages[%d].%s", i, field), Detail: detail})
			}
		}
		check(validName(m.ID, 128, "-_.:"), "id",
			"must be 1 to 128 letters, digits, '-', '_', '.' or ':', starting with a letter or digit")
		check(!seen[m.ID], "id", "must not come twice in one call")
		check(m.Delay >= 0 && m.Delay <= cfg.MaxDelay, "delay_ms",
			fmt.Sprintf("must be between 0 and %d (delay.max_delay)", cfg.MaxDelay.Milliseconds()))
		check(m.At.IsZero() || m.At.Unix() > 0 && m.At.Before(now.Add(cfg.MaxDelay)), "at",
			"must not be further away than delay.max_delay")
		check(m.At.IsZero() || m.Delay == 0, "at", "must not be given with delay_ms")
		check(m.Event == "" || validName(m.Event, 64, "-_."), "event",
			"must be at most 64 letters, digits, '-', '_' or '.', starting with a letter or digit")
		check(m.Sale == "" || validName(m.Sale, 64, "-_"), "sale", "must be the id of a sale")
		check(len(m.Body) <= MaxBody, "body", fmt.Sprintf("must have at most %d bytes", MaxBody))
		check(len(m.Body) > 0 && json.Valid(m.Body), "body", "must be JSON")
		seen[m.ID] = true
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// shownMessage is what show.lua returns about one message.
type shownMessage struct{ record, try, where, score string }

// readMessage makes a Message of a reply of show.lua. If the record was overwritten, the sorted set that the message is
// in gives its state.
func readMessage(sub Subscription, id string, s shownMessage) Message {
	record, try, where, score := s.record, s.try, s.where, s.score
	m := Message{Topic: sub.Topic, Subscription: sub.Name, ID: id,
		State: map[string]string{"due": Pending, "firing": Firing, "dead": Dead}[where]}
	if parts := strings.SplitN(try, "\t", 3); len(parts) == 3 {
		m.Attempts, _ = strconv.Atoi(parts[0]) // written by our own scripts
		m.Error = parts[2]
	}
	if where == "due" && m.Attempts > 0 {
		m.State = Retrying
	}
	m.DueAt = parseMillis(score)
	if where == "dead" {
		m.DueAt, m.EndedAt = time.Time{}, parseMillis(score)
	}
	ended := map[string]string{"d": Delivered, "x": Cancelled, "p": Dropped}
	fields := strings.SplitN(record, "\t", 4)
	if len(fields) < 4 || fields[0] != "w" && ended[fields[0]] == "" {
		m.readErr = fmt.Errorf("record of message %s of topic %s is not readable", id, sub.Topic)
		m.Error = m.readErr.Error()
		return m
	}
	m.AddedAt, m.FirstDue = parseMillis(fields[1]), parseMillis(fields[2])
	if fields[0] == "w" {
		m.Body = []byte(fields[3])
		return m
	}
	m.State, m.DueAt = ended[fields[0]], time.Time{}
	if rest := strings.Split(fields[3], "\t"); len(rest) == 3 {
		m.Attempts, _ = strconv.Atoi(rest[0])
		m.EndedAt = parseMillis(rest[1])
	}
	return m
}

func parseMillis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

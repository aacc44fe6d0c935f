package delay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/internal/invalid"
)

// maxBatch is how many messages one call may carry, in any direction: what Lua's stack can take at once.
const maxBatch = 1000

// MaxBody is how many bytes a message's body may have.
const MaxBody = 16 << 10

// New is a message to add. It is due after Delay or, when that is not zero, at At; a time that has passed is due at once.
type New struct {
	ID    string // unique within its topic: 1 to 128 letters, digits, '-', '_', '.' or ':'
	Delay time.Duration
	At    time.Time
	Body  []byte // JSON, at most MaxBody
}

// The states of a message.
const (
	Pending   = "pending"
	Firing    = "firing"
	Retrying  = "retrying"
	Delivered = "delivered"
	Dead      = "dead"
	Cancelled = "cancelled"
	Dropped   = "dropped" // a dead letter an operator has given up
)

// Message is what is known of a message. Times are by Redis' clock.
type Message struct {
	Topic, ID string
	State     string
	Attempts  int // calls begun
	Error     string
	AddedAt   time.Time
	FirstDue  time.Time
	DueAt     time.Time // the next call, or the end of the lease while firing; zero once it is dead or finished
	EndedAt   time.Time // zero until then
	Body      []byte    // nil once finished
	unread    error     // why its record cannot be read; Error says so, too
}

// delivery is a message that this process alone may deliver until its lease ends.
type delivery struct {
	ID       string
	Attempt  int   // 1 for the first
	Due      int64 // ms by Redis' clock
	Body     []byte
	token    string
	lateness time.Duration // when it was claimed
}

// verdict is what became of one call.
type verdict struct {
	ID, token string
	op        byte
	value     int64
	err       string
}

// The ops of settle.lua.
const (
	opDelivered = 'd'
	opRetry     = 'r'
	opDead      = 'x'
	opBack      = 'b'
)

// maxError is how much of an error is kept, in characters.
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
		check(validName(m.ID, 128, "-_.:"), "id", "must be 1 to 128 letters, digits, '-', '_', '.' or ':', starting with a letter or digit")
		check(!seen[m.ID], "id", "must not come twice in one call")
		check(m.Delay >= 0 && m.Delay <= cfg.MaxDelay, "delay_ms", fmt.Sprintf("must be between 0 and %d (delay.max_delay)", cfg.MaxDelay.Milliseconds()))
		check(m.At.IsZero() || m.At.Unix() > 0 && m.At.Before(now.Add(cfg.MaxDelay)), "at", "must not be further away than delay.max_delay")
		check(m.At.IsZero() || m.Delay == 0, "at", "must not be given with delay_ms")
		check(len(m.Body) <= MaxBody, "body", fmt.Sprintf("must have at most %d bytes", MaxBody))
		check(len(m.Body) > 0 && json.Valid(m.Body), "body", "must be JSON")
		seen[m.ID] = true
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// readMessage puts together what show.lua answers. Of one whose record cannot be read, which somebody must have overwritten, its
// place tells the state.
func readMessage(topic, id, record, try, where, score string) Message {
	m := Message{Topic: topic, ID: id, State: map[string]string{"due": Pending, "firing": Firing, "dead": Dead}[where]}
	if parts := strings.SplitN(try, "\t", 3); len(parts) == 3 {
		m.Attempts, _ = strconv.Atoi(parts[0]) // written by our own scripts
		m.Error = parts[2]
	}
	if where == "due" && m.Attempts > 0 {
		m.State = Retrying
	}
	m.DueAt = millis(score)
	if where == "dead" {
		m.DueAt, m.EndedAt = time.Time{}, millis(score)
	}
	ended := map[string]string{"d": Delivered, "x": Cancelled, "p": Dropped}
	fields := strings.SplitN(record, "\t", 4)
	if len(fields) < 4 || fields[0] != "w" && ended[fields[0]] == "" {
		m.unread = fmt.Errorf("record of message %s of topic %s is not readable", id, topic)
		m.Error = m.unread.Error()
		return m
	}
	m.AddedAt, m.FirstDue = millis(fields[1]), millis(fields[2])
	if fields[0] == "w" {
		m.Body = []byte(fields[3])
		return m
	}
	m.State, m.DueAt = ended[fields[0]], time.Time{}
	if rest := strings.Split(fields[3], "\t"); len(rest) == 3 {
		m.Attempts, _ = strconv.Atoi(rest[0])
		m.EndedAt = millis(rest[1])
	}
	return m
}

func millis(text string) time.Time {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

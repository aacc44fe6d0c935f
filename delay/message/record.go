package message

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/delay"
)

// shownMessage is what show.lua returns about one message.
type shownMessage struct{ record, try, where, score, about string }

// readMessage makes a Message of a reply of show.lua. If the record was overwritten, the sorted set that the message is
// in gives its state.
func readMessage(sub delay.Subscription, id string, s shownMessage) delay.Message {
	record, try, where, score := s.record, s.try, s.where, s.score
	m := delay.Message{Topic: sub.Topic, Subscription: sub.Name, ID: id,
		State: map[string]string{"due": delay.Pending, "firing": delay.Firing, "dead": delay.Dead}[where]}
	if parts := strings.SplitN(try, "\t", 3); len(parts) == 3 {
		m.Attempts, _ = strconv.Atoi(parts[0]) // written by our own scripts
		m.Error = parts[2]
	}
	if where == "due" && m.Attempts > 0 {
		m.State = delay.Retrying
	}
	m.DueAt = parseMillis(score)
	if where == "dead" {
		m.DueAt, m.EndedAt = time.Time{}, parseMillis(score)
	}
	ended := map[string]string{"d": delay.Delivered, "x": delay.Cancelled, "p": delay.Dropped}
	fields := strings.SplitN(record, "\t", 4)
	if len(fields) < 4 || fields[0] != "w" && ended[fields[0]] == "" {
		m.ReadErr = fmt.Errorf("record of message %s of topic %s is not readable", id, sub.Topic)
		m.Error = m.ReadErr.Error()
		return m
	}
	m.Event, m.Sale = readAbout(s.about)
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

package api

import (
	"time"

	"sluice/delay"
)

// MessagesOf returns the messages of a body. Where one names no time it is due after the topic's own delay.
func MessagesOf(messages []NewMessage, topic delay.Topic) []delay.New {
	list := make([]delay.New, len(messages))
	for i, m := range messages {
		list[i] = delay.New{ID: m.ID, Body: m.Body, Event: m.Event, Sale: m.Sale}
		switch {
		case m.DelayMS != nil:
			list[i].Delay = Milliseconds(*m.DelayMS)
		case m.At == nil:
			list[i].Delay = topic.Delay()
		}
		if m.At != nil {
			list[i].At = *m.At
		}
	}
	return list
}

// Milliseconds returns a duration of so many, or the longest one there is. It never wraps around.
func Milliseconds(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

// AddedOf says when each message is due.
func AddedOf(messages []delay.New, due []time.Time) AddedMessages {
	added := make([]AddedMessage, len(messages))
	for i := range messages {
		added[i] = AddedMessage{ID: messages[i].ID, DueAt: FormatTime(due[i])}
	}
	return AddedMessages{Messages: added}
}

// MessageOf shows what one subscription knows of a message.
func MessageOf(m delay.Message) Message {
	b := Message{Topic: m.Topic, Subscription: m.Subscription, ID: m.ID, Event: m.Event, Sale: m.Sale,
		State: m.State, Attempts: m.Attempts, LastError: m.Error, AddedAt: FormatTime(m.AddedAt),
		FirstDue: FormatTime(m.FirstDue), Body: m.Body}
	if !m.DueAt.IsZero() {
		b.DueAt = FormatTime(m.DueAt)
	}
	if !m.EndedAt.IsZero() {
		b.EndedAt = FormatTime(m.EndedAt)
	}
	return b
}

// MessageListOf shows messages one by one.
func MessageListOf(messages []delay.Message) []Message {
	list := make([]Message, len(messages))
	for i, m := range messages {
		list[i] = MessageOf(m)
	}
	return list
}

// MessageOfAll shows what the first subscription knows that has not finished a message, and names the others.
func MessageOfAll(found []delay.Message) Message {
	shown := MessageOf(delay.LeastFinished(found))
	if len(found) > 1 {
		for _, m := range MessageListOf(found) {
			m.Body = nil // it is the same in each
			shown.Deliveries = append(shown.Deliveries, m)
		}
	}
	return shown
}

// Package cloudevent names messages by the attributes of CloudEvents 1.0. They stand beside a body in JSON, or are
// the headers of a call in the binary content mode.
package cloudevent

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	specVersion = "1.0"
	contentType = "application/json"
	timeFormat  = "2006-01-02T15:04:05.000Z07:00" // RFC 3339 in UTC with milliseconds, as in all bodies of the API

	ordersPrefix = "order." // begins the types of our own events
	plainType    = "message"
)

// Attributes are those of one message. Sale is an extension; empty ones are left out.
type Attributes struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"` // unique within its source
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject,omitempty"`
	Time            string `json:"time,omitempty"`
	DataContentType string `json:"datacontenttype"`
	Sale            string `json:"sale,omitempty"`
}

// Order is an event of an order.
type Order struct {
	ID    string // of the order
	Event string
	Sale  string    // empty: not known
	At    time.Time // when it happened; zero: not known
}

// OfOrder returns the attributes of an order's event. They are alike on every way out. prefix is redis.prefix, which no
// other installation has.
func OfOrder(prefix string, o Order) Attributes {
	return Attributes{SpecVersion: specVersion, ID: o.ID + ":" + o.Event, Source: "/" + prefix + "/orders",
		Type: o.Event, Subject: o.ID, Time: formatTime(o.At), DataContentType: contentType, Sale: o.Sale}
}

// Message is a message that another system has added to a topic.
type Message struct {
	Topic string
	ID    string
	Event string // what it tells of; may be empty
	Sale  string // may be empty
	At    time.Time
}

// OfMessage returns the attributes of another system's message. Its type never is that of an order's event.
func OfMessage(prefix string, m Message) Attributes {
	kind := m.Event
	switch {
	case kind == "":
		kind = plainType
	case strings.HasPrefix(kind, ordersPrefix):
		kind = plainType + "." + kind
	}
	return Attributes{SpecVersion: specVersion, ID: m.ID, Source: "/" + prefix + "/topics/" + m.Topic, Type: kind,
		Time: formatTime(m.At), DataContentType: contentType, Sale: m.Sale}
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// SetHeaders writes the attributes into the header of a call. The content type is the caller's to set.
func (a Attributes) SetHeaders(h http.Header) {
	for _, one := range []struct{ name, value string }{{"Ce-Specversion", a.SpecVersion}, {"Ce-Id", a.ID},
		{"Ce-Source", a.Source}, {"Ce-Type", a.Type}, {"Ce-Subject", a.Subject}, {"Ce-Time", a.Time},
		{"Ce-Sale", a.Sale}} {
		if one.value != "" {
			h[one.name] = []string{encode(one.value)}
		}
	}
}

// encode writes a value as the HTTP binding asks. What is not printable ASCII, a space, a quote and a percent sign
// are percent-encoded.
func encode(value string) string {
	plain := func(r rune) bool { return r > ' ' && r < 0x7f && r != '"' && r != '%' }
	if strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	var text strings.Builder
	for i := range len(value) {
		if b := value[i]; plain(rune(b)) {
			text.WriteByte(b)
		} else {
			fmt.Fprintf(&text, "%%%02X", b)
		}
	}
	return text.String()
}

package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// Heartbeat is how often a comment keeps proxies from closing a stream.
const Heartbeat = 15 * time.Second

const (
	streamRetry = 3000             // ms after which a browser reconnects
	streamWrite = 10 * time.Second // a client that has not taken an event by then is cut off
)

// EventStream writes server-sent events to one client.
type EventStream struct {
	c        *gin.Context
	now      func() time.Time
	patience time.Duration // of one write
	written  time.Time     // when something was written last
}

// NewEventStream returns a stream to the client of c; Start begins it.
func NewEventStream(c *gin.Context, now func() time.Time) *EventStream {
	return &EventStream{c: c, now: now, patience: streamWrite, written: now()}
}

// Start sends the header and when a browser shall reconnect.
func (s *EventStream) Start() error {
	h := s.c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	return s.write(fmt.Sprintf("retry: %d\n\n", streamRetry))
}

// Send writes one event; data is a single line.
func (s *EventStream) Send(name, id string, data []byte) error {
	return s.write("event: " + name + "\nid: " + id + "\ndata: " + string(data) + "\n\n")
}

// Place tells the client an id to come back with, although there was no event.
func (s *EventStream) Place(id string) error { return s.write("id: " + id + "\n\n") }

// Quiet reports whether nothing was written for so long that the stream must be kept alive.
func (s *EventStream) Quiet() bool { return s.now().Sub(s.written) >= Heartbeat }

// KeepAlive writes a comment when nothing was written for a while.
func (s *EventStream) KeepAlive() error {
	if !s.Quiet() {
		return nil
	}
	return s.write(": keepalive\n\n")
}

// Bye tells the client to reconnect elsewhere. There is nothing to do if it has gone.
func (s *EventStream) Bye() { _ = s.write("event: bye\ndata: {}\n\n") }

// write gives the client s.patience to take the text: a reader that stops costs a connection for that long.
func (s *EventStream) write(text string) error {
	if err := HoldOpen(s.c.Writer, s.patience); err != nil {
		return err
	}
	if _, err := s.c.Writer.WriteString(text); err != nil {
		return err
	}
	s.written = s.now()
	return http.NewResponseController(s.c.Writer).Flush()
}

// HoldOpen gives the current request d more to be answered. It is called once for a long poll, before each write for
// an event stream. Without it http.write_timeout cuts the answer off, and nobody but the client notices.
func HoldOpen(w http.ResponseWriter, d time.Duration) error {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("extend the write deadline: %w", err)
	}
	return nil
}

package shop

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// Log writes what a process logs into a test's output.
type Log struct{ T *testing.T }

func (l Log) Write(p []byte) (int, error) {
	l.T.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// WatchedLog keeps what is written, and calls Seen once when Text has been.
type WatchedLog struct {
	Text string
	Seen func()

	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *WatchedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if l.Seen != nil && strings.Contains(l.buf.String(), l.Text) {
		l.Seen()
		l.Seen = nil
	}
	return len(p), nil
}

func (l *WatchedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

package redis

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

const (
	maxLogLine  = 2048 // bytes of one line of the server that are kept
	maxLogLines = 8    // lines kept for the error when it dies
)

// serverLog logs the managed server's output, line by line. Its warnings count as such only while it runs, because it
// prints its start and stop messages as warnings, too.
type serverLog struct {
	log *slog.Logger

	mu      sync.Mutex // guards the rest
	part    []byte
	last    []string
	running bool
}

func newServerLog(log *slog.Logger) *serverLog { return &serverLog{log: log} }

// Write never fails, so that its log never blocks the server.
func (s *serverLog) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		room := max(maxLogLine-len(s.part), 0)
		s.part = append(s.part, line[:min(room, len(line))]...)
		if whole {
			s.line(string(s.part))
			s.part = s.part[:0]
		}
	}
	return len(p), nil
}

// line logs a line of the form "pid:role date * text"; the sign before the text is the level.
func (s *serverLog) line(raw string) {
	text, level := raw, slog.LevelDebug
	for _, mark := range []string{" . ", " - ", " * ", " # "} {
		if head, tail, ok := strings.Cut(raw, mark); ok && len(head) < 48 {
			text = tail
			if mark == " # " && s.running {
				level = slog.LevelWarn
			}
			break
		}
	}
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	s.last = append(s.last, text)
	s.last = s.last[max(len(s.last)-maxLogLines, 0):]
	s.log.Log(context.Background(), level, "redis-server: "+text)
}

func (s *serverLog) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.last, " | ")
}

func (s *serverLog) started()  { s.setRunning(true) }
func (s *serverLog) stopping() { s.setRunning(false) }

func (s *serverLog) setRunning(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = on
}

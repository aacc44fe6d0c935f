package server

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"sluice/internal/coalesce"
	"sluice/store"
	"sluice/store/redis"
)

const (
	refusalEvery   = 10 * time.Second // how often the same reason is logged again while it lasts
	refusalReasons = 50               // reasons remembered; beyond them it forgets all and begins again
)

// RefusalLog tells the log why requests are answered unavailable: once for each reason, then every ten seconds with how
// many more there were. Every shopper of a rush meets the same store. Safe for concurrent use.
type RefusalLog struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	last map[string]*refusalCount
}

type refusalCount struct {
	at    time.Time
	since int // requests not logged since then
}

// NewRefusalLog returns a log of refusals.
func NewRefusalLog(log *slog.Logger, now func() time.Time) *RefusalLog {
	return &RefusalLog{log: log, now: now, last: map[string]*refusalCount{}}
}

// Note logs the error of a request unless its reason was logged just now.
func (r *RefusalLog) Note(requestID, route string, err error) {
	reason := refusalReason(err)
	others, due := r.count(reason)
	if !due {
		return
	}
	r.log.Warn("request refused: a store does not answer or refuses", "reason", reason, "others_since", others,
		"request_id", requestID, "route", route, "error", err)
}

// count counts a refusal, and returns how many went unlogged when it is to be logged.
func (r *RefusalLog) count(reason string) (others int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, known := r.now(), r.last[reason]
	if known != nil && now.Sub(known.at) < refusalEvery {
		known.since++
		return 0, false
	}
	if known != nil {
		others = known.since
	} else if len(r.last) >= refusalReasons {
		clear(r.last)
	}
	r.last[reason] = &refusalCount{at: now}
	return others, true
}

// refusalReason names the store and its answer in a few words.
func refusalReason(err error) string {
	switch {
	case errors.Is(err, coalesce.ErrOverloaded):
		return "too many requests wait here"
	case errors.Is(err, coalesce.ErrBroken):
		return "a call panicked"
	case redis.Unavailable(err):
		return "redis: " + redis.Reason(err)
	case store.Unavailable(err):
		return "database"
	}
	return "not ready"
}

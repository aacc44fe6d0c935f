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
	refusalEvery   = 10 * time.Second // how often a lasting reason is logged again
	refusalReasons = 50               // reasons remembered; beyond that all are forgotten
)

// RefusalLog logs why requests are answered unavailable: each reason once, then every ten seconds with the number of
// further requests. In a rush all shoppers meet the same reason. Safe for concurrent use.
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

// Note logs the error of a request unless its reason was logged lately.
func (r *RefusalLog) Note(requestID, route string, err error) {
	reason := refusalReason(err)
	others, due := r.count(reason)
	if !due {
		return
	}
	r.log.Warn("request refused: a store does not answer or refuses", "reason", reason, "others_since", others,
		"request_id", requestID, "route", route, "error", err)
}

// count counts a refusal. due says that it shall be logged, with others, the number of unlogged ones.
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

// refusalReason returns the store and its answer in a few words.
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

package e2e

import (
	"net/http"
	"time"
)

// window is a time in which Redis could take what it did not keep.
type window struct {
	from  time.Time // zero: everything before
	to    time.Time // zero: not over
	split bool      // two servers may have taken themselves for the master
}

// loses opens a window in which one server answers what the next one may lack;
// the returned function closes it.
func (b *breaker) loses(from time.Time) func() { return b.open(window{from: from}) }

// splits opens a window in which two servers may answer at once: what one of
// them sold may be sold out, or over the user's limit, at the other.
func (b *breaker) splits(from time.Time) func() { return b.open(window{from: from, split: true}) }

func (b *breaker) open(w window) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := len(b.windows)
	b.windows = append(b.windows, w)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.windows[at].to = time.Now()
	}
}

// mayLose reports whether what an answer promised may have gone: whether it was
// given within a window, and within one in which two servers may have answered.
func (b *breaker) mayLose(a answer) (may, split bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.windows {
		if !a.got.Before(w.from) && (w.to.IsZero() || !a.sent.After(w.to)) {
			may, split = true, split || w.split
		}
	}
	return may, split
}

// standMost is how long an audit may differ after a fault of Redis.
const standMost = 10 * time.Second

// differs notes an audit that was asked for at a moment and was not clean. On
// one server that loses nothing it is wrong at once; otherwise it is a
// difference to be mended, which may stand for a while.
func (j *judge) differs(asked time.Time, raw []byte) {
	if !j.plan.forgets() && (j.plan.engine == "" || j.plan.engine == onSingle) {
		j.verdict.find(true, "an audit while busy was not clean: %s", raw)
		return
	}
	if j.differsSince.IsZero() {
		j.differsSince = asked
	}
	stood := asked.Sub(j.differsSince)
	j.verdict.stood = max(j.verdict.stood, stood)
	tooLong := stood > standMost && !j.stoodTooLong // once is enough
	j.verdict.find(tooLong, "a difference has stood for %s: %s", stood.Round(time.Millisecond), raw)
	j.stoodTooLong = j.stoodTooLong || stood > standMost
}

// agrees notes a clean audit.
func (j *judge) agrees() {
	j.verdict.audits++
	j.differsSince = time.Time{}
}

// losses holds an accepted order that failed, or came back after it was
// cancelled, against the faults: only what was answered while Redis could not
// keep it may be lost, and its owner is told just that. None is sold out, unless
// two servers sold at once.
func (j *judge) losses(r *request, row orderRow) {
	promised, cancelled := answer{}, answer{}
	for _, a := range r.placed() {
		if a.err == nil && a.reply.Status == http.StatusAccepted {
			promised = a
			break
		}
	}
	for _, a := range r.by(http.MethodDelete) {
		if a.err == nil && a.reply.Status == http.StatusOK && a.reply.State == "cancelled" {
			cancelled = a
			break
		}
	}
	if row.Status == "failed" {
		may, split := j.breaker.mayLose(promised)
		j.verdict.find(!may, "LOST: order %s of %s was answered 202 when nothing could be lost, and failed: %s",
			row.ID, r.id, row.Reason)
		j.verdict.find(may && !split && row.Reason != "lost", "order %s of %s was answered 202 and failed: %s", row.ID,
			r.id, row.Reason)
	}
	if cancelled.sent.IsZero() || row.Status == "cancelled" || row.Status == "failed" {
		return
	}
	forgets, _ := j.breaker.mayLose(cancelled)
	returns, _ := j.breaker.mayLose(promised)
	j.verdict.find(!forgets && !returns,
		"order %s of %s was cancelled at a moment when nothing could be lost, and is %s", row.ID, r.id, row.Status)
}

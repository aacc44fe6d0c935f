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

// noteDifference notes an audit that was asked for at a moment and was not clean. On
// one server that loses nothing it is wrong at once; otherwise it is a
// difference to be mended, which may stand for a while.
func (k *checker) noteDifference(asked time.Time, raw []byte) {
	if !k.plan.forgets() && (k.plan.engine == "" || k.plan.engine == onSingle) {
		k.findings.addIf(true, "an audit while busy was not clean: %s", raw)
		return
	}
	if k.differsSince.IsZero() {
		k.differsSince = asked
	}
	stood := asked.Sub(k.differsSince)
	k.findings.stood = max(k.findings.stood, stood)
	tooLong := stood > standMost && !k.stoodTooLong // once is enough
	k.findings.addIf(tooLong, "a difference has stood for %s: %s", stood.Round(time.Millisecond), raw)
	k.stoodTooLong = k.stoodTooLong || stood > standMost
}

// noteClean notes a clean audit.
func (k *checker) noteClean() {
	k.findings.audits++
	k.differsSince = time.Time{}
}

// checkLosses holds an accepted order that failed, or came back after it was
// cancelled, against the faults: only what was answered while Redis could not
// keep it may be lost, and its owner is told just that. None is sold out, unless
// two servers sold at once.
func (k *checker) checkLosses(r *request, row orderRow) {
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
		may, split := k.breaker.mayLose(promised)
		k.findings.addIf(!may, "LOST: order %s of %s was answered 202 when nothing could be lost, and failed: %s",
			row.ID, r.id, row.Reason)
		k.findings.addIf(may && !split && row.Reason != "lost", "order %s of %s was answered 202 and failed: %s",
			row.ID, r.id, row.Reason)
	}
	if cancelled.sent.IsZero() || row.Status == "cancelled" || row.Status == "failed" {
		return
	}
	forgets, _ := k.breaker.mayLose(cancelled)
	returns, _ := k.breaker.mayLose(promised)
	k.findings.addIf(!forgets && !returns,
		"order %s of %s was cancelled at a moment when nothing could be lost, and is %s", row.ID, r.id, row.Status)
}

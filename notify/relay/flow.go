package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
	"sluice/notify"
)

// flow is what is under way on a Flowing channel. Its loop's goroutine owns all but the two Go channels.
type flow struct {
	channel notify.Flowing
	batch   int // rows in one lease
	most    int // rows under way at once: what the workers have, and a batch that waits for them
	feed    chan func()
	reports chan report
	rows    int       // under way
	next    time.Time // no search for rows before
}

// delivery is one lease under way.
type delivery struct {
	batch    batch
	ctx      context.Context
	end      func()
	cut      atomic.Bool   // the relay's own end interrupted it
	left     int           // messages without a result
	reported []atomic.Bool // by place
}

// report is one result.
type report struct {
	d      *delivery
	place  int
	result notify.Result
}

// newFlow returns nil for a channel that takes whole batches.
func newFlow(l *channelLoop) *flow {
	ch, ok := l.channel.(notify.Flowing)
	if !ok || ch.Workers() == 0 {
		return nil
	}
	l.underWay = map[int64]bool{}
	most := ch.Workers() + l.limit
	return &flow{channel: ch, batch: l.limit, most: most, feed: make(chan func(), most),
		reports: make(chan report, most)}
}

// runFlow keeps the workers of a channel busy until ctx ends. Then it waits for what is under way.
func (r *Relay) runFlow(ctx context.Context, l *channelLoop, f *flow) {
	var feeder sync.WaitGroup
	feeder.Go(func() {
		for send := range f.feed {
			send()
		}
	})
	for ctx.Err() == nil {
		for ctx.Err() == nil && !time.Now().Before(f.next) && r.topUp(ctx, l, f) {
		}
		r.collect(ctx, l, f)
	}
	for f.rows > 0 {
		r.collect(ctx, l, f)
	}
	close(f.feed)
	feeder.Wait()
	l.limit = f.batch
}

// topUp leases rows for which there is room, begins to deliver them, and says when to search next. It reports whether
// there may be room for more at once.
func (r *Relay) topUp(ctx context.Context, l *channelLoop, f *flow) bool {
	now := time.Now()
	f.next = now
	if l.limit = f.room(r.cfg.Timeout); l.limit <= 0 {
		return false
	}
	if wait := l.pause(); wait > 0 {
		f.next = now.Add(wait)
		return false
	}
	var b batch
	err := apart.Try(func() (err error) {
		b, err = r.lease(ctx, l)
		return err
	})
	if wait := r.failedFor(ctx, l, err); wait > 0 {
		f.next = now.Add(wait)
		return false
	}
	if len(b.rows) == 0 && b.ended == 0 {
		f.next = now.Add(r.cfg.Poll)
		return false
	}
	if len(b.rows) > 0 {
		killpoint.Pass("notify.leased")
		r.begin(ctx, l, f, b)
	}
	if !l.more {
		f.next = now.Add(gatherPause)
	}
	return l.more
}

// room returns how many rows to lease. A lease of a few would cost as much as one of many. So there is none before
// half of what waits is with the workers.
func (f *flow) room(within time.Duration) int {
	if !f.low(f.rows) {
		return 0
	}
	return min(f.batch, f.most-f.rows, f.channel.Room(within))
}

// low reports whether the workers may soon have nothing to do.
func (f *flow) low(rows int) bool { return rows <= f.most-(f.batch+1)/2 }

// begin hands a lease to the channel. A channel that panics fails what it has not reported.
func (r *Relay) begin(ctx context.Context, l *channelLoop, f *flow, b batch) {
	d := &delivery{batch: b, left: len(b.rows), reported: make([]atomic.Bool, len(b.rows))}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	stop := context.AfterFunc(ctx, func() {
		idle(work, nil, r.cfg.Grace)
		d.cut.Store(true)
		cancel()
	})
	d.ctx, d.end = work, func() {
		stop()
		cancel()
	}
	for _, row := range b.rows {
		l.underWay[row.ID] = true
	}
	f.rows += len(b.rows)
	say := func(place int, result notify.Result) {
		if d.reported[place].CompareAndSwap(false, true) {
			f.reports <- report{d, place, result} // there is room for every row under way
		}
	}
	guard := func(step func()) {
		if err := apart.Try(func() error { step(); return nil }); err != nil {
			r.log.ErrorContext(ctx, "notify: channel panicked", "channel", b.channel, "error", err)
			for place := range b.rows {
				say(place, notify.Retry(channelPanicked))
			}
		}
	}
	send := func() {}
	guard(func() { send = f.channel.Begin(d.ctx, messagesOf(b), say) })
	f.feed <- func() { guard(send) }
}

// collect waits for results, until it is time to search for rows, and stores them. Once ctx has ended it waits for
// nothing else.
func (r *Relay) collect(ctx context.Context, l *channelLoop, f *flow) {
	parts := map[*delivery][]report{}
	for _, rep := range f.wait(ctx, l, r.cfg.Poll) {
		parts[rep.d] = append(parts[rep.d], rep)
	}
	if len(parts) > 0 {
		killpoint.Pass("notify.delivered")
	}
	for d, reports := range parts {
		part := batch{channel: d.batch.channel, token: d.batch.token}
		results := make([]notify.Result, len(reports))
		for i, rep := range reports {
			row := d.batch.rows[rep.place]
			part.rows, results[i] = append(part.rows, row), rep.result
			delete(l.underWay, row.ID)
		}
		f.rows -= len(reports)
		err := apart.Try(func() error { return r.storeResults(ctx, l, part, results, d.cut.Load()) })
		if wait := r.failedFor(ctx, l, err); wait > 0 {
			f.next = time.Now().Add(wait)
		}
		if d.left -= len(reports); d.left == 0 {
			d.end()
		}
	}
}

// wait returns results, those of some milliseconds together unless the workers need more rows. It returns none when it
// is time to search for rows.
func (f *flow) wait(ctx context.Context, l *channelLoop, poll time.Duration) []report {
	ending := ctx.Err() != nil // asked once: it may end at any moment, and without rows nothing would wake this wait
	if ending && f.rows == 0 {
		return nil
	}
	var ended []report
	until := time.Until(f.next)
	if until <= 0 { // there was no room
		until = poll
	}
	timer := time.NewTimer(until)
	defer timer.Stop()
	due, wake, done := timer.C, l.wake, ctx.Done()
	if ending {
		due, wake, done = nil, nil, nil
	}
	select {
	case first := <-f.reports:
		ended = append(ended, first)
	case <-wake:
		f.next = earlier(f.next, time.Now().Add(gatherPause)) // what is queued meanwhile goes with it
		return nil
	case <-due:
		return nil
	case <-done:
		return nil
	}
	together := time.After(gatherPause)
	for len(ended) < f.rows && (!l.more || !f.low(f.rows-len(ended))) {
		select {
		case next := <-f.reports:
			ended = append(ended, next)
		case <-together:
			return ended
		}
	}
	return ended
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

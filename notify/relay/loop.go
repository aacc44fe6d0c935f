package relay

import (
	"time"

	"sluice/notify"
)

const (
	// gatherPause lies between two scans of a channel without backlog, so that rows queued meanwhile make one batch.
	gatherPause = 20 * time.Millisecond
	// A full scan takes place at most every fullScanLeast and at least every fullScanMost. In between, it takes at most
	// one part in fullScanShare of the time.
	fullScanMost  = 5 * time.Second
	fullScanLeast = 200 * time.Millisecond
	fullScanShare = 20
)

// channelLoop is the state of one channel's own loop. It shares nothing with other loops but the database.
//
// Rows are delivered in the order in which they were queued. A scan begins after the last row taken, because most rows
// before it are delivered already. Some pending rows do appear before that point: their transaction committed late, or
// another relay died or handed them back. A full scan from the start, now and then, finds these.
type channelLoop struct {
	channel notify.Channel
	wake    chan struct{}
	limit   int  // rows in one lease
	latest  bool // overtaken rows are not sent

	after        int64 // rows up to this ID were taken; the next full scan finds the others
	more         bool  // the last scan filled its limit, so there are probably more rows
	fullScanAt   time.Time
	fullScanTook time.Duration
	heldFor      time.Duration  // the wait that the channel asked for when it handed messages back
	backoff      time.Duration  // the wait after the last failure of the database, 0 when there is none
	underWay     map[int64]bool // rows of a Flowing channel that have no result yet
}

func newChannelLoop(ch notify.Channel, batch int) *channelLoop {
	l := &channelLoop{channel: ch, wake: make(chan struct{}, 1), limit: batch}
	if wide, ok := ch.(notify.Wide); ok {
		l.limit = batch * wide.Width()
	}
	if latest, ok := ch.(notify.Latest); ok {
		l.latest = latest.Latest()
	}
	return l
}

// pause returns how long the channel's rows are left alone.
func (l *channelLoop) pause() time.Duration {
	wait := l.heldFor
	l.heldFor = 0
	if p, ok := l.channel.(notify.Pausing); ok {
		wait = max(wait, p.Pause())
	}
	return wait
}

// scan is one search for due rows: those with a higher ID than after, which is 0 for all.
type scan struct {
	after int64
	began time.Time
}

// nextScan returns where the next search begins.
func (l *channelLoop) nextScan(now time.Time) scan {
	interval := min(max(fullScanLeast, fullScanShare*l.fullScanTook), fullScanMost)
	if now.Sub(l.fullScanAt) < interval {
		return scan{l.after, now}
	}
	return scan{0, now}
}

// scanned moves the cursor behind the rows that a scan found, which must be in the order of their IDs.
func (l *channelLoop) scanned(s scan, now time.Time, rows []notify.Row) {
	l.more = len(rows) >= l.limit
	if s.after == 0 {
		l.fullScanAt, l.fullScanTook = s.began, now.Sub(s.began)
	}
	if n := len(rows); n > 0 && rows[n-1].NextAt == 0 {
		l.after = rows[n-1].ID
	}
}

// rewind moves the cursor before an unsent row, so that the next scan finds it.
func (l *channelLoop) rewind(row notify.Row) {
	if row.NextAt == 0 {
		l.after = min(l.after, row.ID-1)
	}
}

package notify

import "time"

const (
	// rest lies between two looks of a lane that has caught up: what is queued meanwhile is told together.
	rest = 20 * time.Millisecond
	// lookBackMost and lookBackLeast bound how often a lane looks again at what lies behind it, and lookBackShare what that may cost.
	lookBackMost  = 5 * time.Second
	lookBackLeast = 200 * time.Millisecond
	lookBackShare = 20
)

// lane is one channel's own loop. Nothing in it is shared with other lanes but the database.
//
// Rows are told in the order in which they were queued, and a lane goes on behind the last one it took: what lies before it is
// delivered, and to walk over that at each look would cost more, the more there is. Some rows do turn up behind: their transaction
// committed late, another relay died with them, or gave them back. For these it looks again from the start, now and then.
type lane struct {
	channel Channel
	wake    chan struct{}
	most    int  // rows in one lease
	latest  bool // what was overtaken is not told

	after  int64 // rows up to this ID were taken, or are looked for again at the next look from the start
	full   bool  // the last look found as many rows as it may: there is more
	began  time.Time
	walked time.Duration // how long the last look from the start took
	hold   time.Duration // what the channel asked for when it handed messages back
}

func newLane(ch Channel, batch int) *lane {
	l := &lane{channel: ch, wake: make(chan struct{}, 1), most: batch}
	if wide, ok := ch.(Wide); ok {
		l.most = batch * wide.Width()
	}
	if latest, ok := ch.(Latest); ok {
		l.latest = latest.Latest()
	}
	return l
}

// pause is how long the channel's rows are left alone.
func (l *lane) pause() time.Duration {
	wait := l.hold
	l.hold = 0
	if p, ok := l.channel.(Pausing); ok {
		wait = max(wait, p.Pause())
	}
	return wait
}

// look is one look for due rows: those behind after, or, now and then, all.
type look struct {
	after int64
	began time.Time
}

func (l *lane) look(now time.Time) look {
	if again := min(max(lookBackLeast, lookBackShare*l.walked), lookBackMost); now.Sub(l.began) < again {
		return look{l.after, now}
	}
	return look{0, now}
}

// looked remembers where rows were found, which are in the order they were taken: the lane goes on behind them.
func (l *lane) looked(at look, now time.Time, rows []Row) {
	l.full = len(rows) >= l.most
	if at.after == 0 {
		l.began, l.walked = at.began, now.Sub(at.began)
	}
	if n := len(rows); n > 0 && rows[n-1].NextAt == 0 {
		l.after = rows[n-1].ID
	}
}

// back puts the lane before a row that keeps its place.
func (l *lane) back(row Row) {
	if row.NextAt == 0 {
		l.after = min(l.after, row.ID-1)
	}
}

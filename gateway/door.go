package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/queue"
)

const (
	// shutFor is how long it is repeated that a sale is paused or has ended. It bounds how long an
	// operator's change goes unnoticed. All other refusals are repeated for as long as Redis says
	// that they stay so.
	shutFor = 100 * time.Millisecond
)

// door is what this gateway may answer for one sale without asking Redis.
//
// While the line refuses everybody new, it still has two kinds of shoppers to
// recognise: who holds the limit must read so before "sold out", and who
// repeats an order's key must get that order's answer. Both have been in the
// line before. So a refusal is repeated locally only to users who never were,
// and only while the crowd, the users who were, is known up to the very ticket
// that was the newest when Redis refused.
//
// Who comes into the line through another gateway after that is not in the
// crowd. So nobody does: the line takes a room or a unit that comes back only
// when every gateway has stopped repeating that it is full or nothing is left.
type door struct {
	now   func() time.Time
	shut  atomic.Pointer[shut]
	crowd crowd
}

// shut is a refusal that Redis gave to everybody new.
type shut struct {
	err            error
	epoch, version int64 // of the sale as the gateway knew it then
	seq            int64 // the line's newest ticket when it was given
	until          time.Time
}

// refusal returns the answer to any order of this user, nil when Redis must be
// asked.
func (d *door) refusal(sale inventory.Sale, user string) error {
	s := d.shut.Load()
	if s == nil || s.epoch != sale.Epoch || s.version != sale.Version || d.now().After(s.until) ||
		!d.crowd.lacks(user, s.epoch, s.seq) {
		return nil
	}
	return s.err
}

// learn takes over what Redis told about the line of the sale. It must be
// called before anybody hears those answers: a winner's next request must find
// the winner in the crowd.
func (d *door) learn(sale inventory.Sale, told *queue.AdmitResult) {
	d.crowd.admitted(sale.Epoch, told)
	var last error
	heard := false
	for i := range told.Admissions {
		one := &told.Admissions[i]
		if one.Err == nil && !one.Replayed || one.Err != nil && refusesAll(one.Err) {
			last, heard = one.Err, true
		}
	}
	switch {
	case !heard: // only users the line knew: nothing about the others
	case last == nil:
		d.shut.Store(nil)
	case errors.Is(last, queue.ErrPaused), errors.Is(last, queue.ErrEnded):
		d.close(last, sale, told.Seq, d.now().Add(shutFor))
	case told.Firm.IsZero(): // fewer are left than were asked for
		d.shut.Store(nil)
	default:
		d.close(last, sale, told.Seq, told.Firm)
	}
}

// refusesAll reports whether an answer would be given to everybody new.
func refusesAll(err error) bool {
	return errors.Is(err, queue.ErrSoldOut) || errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrEnded) ||
		errors.Is(err, queue.ErrPaused) || errors.As(err, new(queue.NotStartedError))
}

func (d *door) close(err error, sale inventory.Sale, seq int64, until time.Time) {
	d.shut.Store(&shut{err: err, epoch: sale.Epoch, version: sale.Version, seq: seq, until: until})
	d.crowd.want(sale.Epoch, seq)
}

// doors are the doors of all sales, and the census of their crowds.
type doors struct {
	now    func() time.Time
	lines  *queue.Lines
	sales  sync.Map // sale id → *door; of those that were asked for lately
	census census
}

func (ds *doors) init(lines *queue.Lines, now func() time.Time, panics *server.Panics) {
	ds.lines, ds.now = lines, now
	ds.census.init(now, panics)
}

func (ds *doors) of(sale string) *door {
	if known, ok := ds.sales.Load(sale); ok {
		return known.(*door)
	}
	fresh := &door{now: ds.now}
	fresh.crowd.init(ds.lines.Of(sale), &ds.census)
	known, _ := ds.sales.LoadOrStore(sale, fresh)
	return known.(*door)
}

// open forgets a sale's refusal: there is news of its stock.
func (ds *doors) open(sale string) {
	if known, ok := ds.sales.Load(sale); ok {
		known.(*door).shut.Store(nil)
	}
}

// forget lets go of the doors that nobody has asked Redis for lately, with their
// crowds. Whoever holds one goes on with it as another gateway would.
func (ds *doors) forget() {
	now := ds.now()
	ds.sales.Range(func(sale, d any) bool {
		if d.(*door).crowd.forget(now) {
			ds.sales.CompareAndDelete(sale, d)
		}
		return true
	})
}

func (ds *doors) wait() { ds.census.wait() }

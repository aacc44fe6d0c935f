package admission

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/queue"
)

// operatorRefusalFor is how long it is repeated that a sale is paused or has
// ended. It bounds how long an operator's change goes unnoticed. All other
// refusals are repeated for as long as Redis says that they stay so.
const operatorRefusalFor = 100 * time.Millisecond

// refusalCache holds what this gateway may answer for one sale without asking Redis.
//
// While the line refuses everybody new, it still has two kinds of shoppers to
// recognise: who holds the limit must read so before "sold out", and who
// repeats an order's key must get that order's answer. Both have been in the
// line before. So a refusal is repeated locally only to users who never were,
// and only while the users who were are known up to the very ticket that was the
// newest when Redis refused.
//
// Who comes into the line through another gateway after that is not among the
// seen users. So nobody does: the line takes a room or a unit that comes back only
// when every gateway has stopped repeating that it is full or nothing is left.
type refusalCache struct {
	now      func() time.Time
	repeated atomic.Pointer[repeatedRefusal]
	seen     seenUsers
}

// repeatedRefusal is a refusal that Redis gave to everybody new.
type repeatedRefusal struct {
	err            error
	epoch, version int64 // of the sale as the gateway knew it then
	seq            int64 // the line's newest ticket when it was given
	until          time.Time
}

// refusal returns the answer to any order of this user, nil when Redis must be
// asked.
func (c *refusalCache) refusal(sale inventory.Sale, user string) error {
	r := c.repeated.Load()
	if r == nil || r.epoch != sale.Epoch || r.version != sale.Version || c.now().After(r.until) ||
		!c.seen.lacks(user, r.epoch, r.seq) {
		return nil
	}
	return r.err
}

// learn takes over what Redis told about the line of the sale. It must be
// called before anybody hears those answers: a winner's next request must find
// the winner among the seen users.
func (c *refusalCache) learn(sale inventory.Sale, result *queue.AdmitResult) {
	c.seen.noteAdmitted(sale.Epoch, result)
	var last error
	heard := false
	for i := range result.Admissions {
		one := &result.Admissions[i]
		if one.Err == nil && !one.Replayed || one.Err != nil && refusesAll(one.Err) {
			last, heard = one.Err, true
		}
	}
	switch {
	case !heard: // only users the line knew: nothing about the others
	case last == nil:
		c.repeated.Store(nil)
	case errors.Is(last, queue.ErrPaused), errors.Is(last, queue.ErrEnded):
		c.keep(last, sale, result.Seq, c.now().Add(operatorRefusalFor))
	case result.Firm.IsZero(): // fewer are left than were asked for
		c.repeated.Store(nil)
	default:
		c.keep(last, sale, result.Seq, result.Firm)
	}
}

// refusesAll reports whether an answer would be given to everybody new.
func refusesAll(err error) bool {
	return errors.Is(err, queue.ErrSoldOut) || errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrEnded) ||
		errors.Is(err, queue.ErrPaused) || errors.As(err, new(queue.NotStartedError))
}

// keep repeats a refusal from now on, and has the filter brought up to it.
func (c *refusalCache) keep(err error, sale inventory.Sale, seq int64, until time.Time) {
	c.repeated.Store(&repeatedRefusal{err: err, epoch: sale.Epoch, version: sale.Version, seq: seq, until: until})
	c.seen.bringUpTo(sale.Epoch, seq)
}

// refusalCaches holds the caches of all sales, and the scans that fill their filters.
type refusalCaches struct {
	now   func() time.Time
	lines *queue.Lines
	sales sync.Map // sale id → *refusalCache; of those that were asked for lately
	scans scans
}

func (cs *refusalCaches) init(lines *queue.Lines, now func() time.Time, panics *server.Panics) {
	cs.lines, cs.now = lines, now
	cs.scans.init(now, panics)
}

func (cs *refusalCaches) of(sale string) *refusalCache {
	if known, ok := cs.sales.Load(sale); ok {
		return known.(*refusalCache)
	}
	fresh := &refusalCache{now: cs.now}
	fresh.seen.init(cs.lines.Of(sale), &cs.scans)
	known, _ := cs.sales.LoadOrStore(sale, fresh)
	return known.(*refusalCache)
}

// drop forgets a sale's refusal: there is news of its stock.
func (cs *refusalCaches) drop(sale string) {
	if known, ok := cs.sales.Load(sale); ok {
		known.(*refusalCache).repeated.Store(nil)
	}
}

// forget lets go of the caches that nobody has asked Redis for lately, with their
// filters. Whoever holds one goes on with it as another gateway would.
func (cs *refusalCaches) forget() {
	now := cs.now()
	cs.sales.Range(func(sale, cache any) bool {
		if cache.(*refusalCache).seen.forget(now) {
			cs.sales.CompareAndDelete(sale, cache)
		}
		return true
	})
}

func (cs *refusalCaches) wait() { cs.scans.wait() }

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

// operatorRefusalFor is how long the refusals "paused" and "ended" are repeated. It bounds how long an operator's
// change goes unnoticed. All other refusals are repeated for as long as Redis says that they hold.
const operatorRefusalFor = 100 * time.Millisecond

// refusalCache has the refusal of one sale that this gateway may repeat without Redis.
//
// While the line refuses all new users, two kinds of shoppers need another answer. A user at the limit must get that
// refusal before "sold out". A repeated key must get its order's answer. Both have been in the line before. So a
// refusal is repeated only to users who never were. That requires that the filter has every user up to the newest
// ticket at the time of the refusal.
//
// A user whom another gateway admits after that would be missing in the filter. So nobody is: the line gives away
// returned room or units only when every gateway has stopped repeating the refusal.
type refusalCache struct {
	now      func() time.Time
	repeated atomic.Pointer[repeatedRefusal]
	seen     seenUsers
}

// repeatedRefusal is a refusal that Redis gives to all new users.
type repeatedRefusal struct {
	err            error
	epoch, version int64 // of the sale, as the gateway knew it then
	seq            int64 // the line's newest ticket at that time
	until          time.Time
}

// refusal returns the refusal of any order of this user, or nil when only Redis can decide.
func (c *refusalCache) refusal(sale inventory.Sale, user string) error {
	r := c.repeated.Load()
	if r == nil || r.epoch != sale.Epoch || r.version != sale.Version || c.now().After(r.until) ||
		!c.seen.lacks(user, r.epoch, r.seq) {
		return nil
	}
	return r.err
}

// learn takes over the line's state from a result of Redis. It must be called before the answers are delivered: a
// winner's next request must find the winner in the filter.
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
	case !heard: // only answers to users that the line knew, which say nothing about others
	case last == nil:
		c.repeated.Store(nil)
	case errors.Is(last, queue.ErrPaused), errors.Is(last, queue.ErrEnded):
		c.repeat(last, sale, result.Seq, c.now().Add(operatorRefusalFor))
	case result.Firm.IsZero(): // fewer units are left than were requested
		c.repeated.Store(nil)
	default:
		c.repeat(last, sale, result.Seq, result.Firm)
	}
}

// refusesAll reports whether all new users would get this error.
func refusesAll(err error) bool {
	return errors.Is(err, queue.ErrSoldOut) || errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrEnded) ||
		errors.Is(err, queue.ErrPaused) || errors.As(err, new(queue.NotStartedError))
}

// repeat makes the cache repeat a refusal and fills the filter up to it.
func (c *refusalCache) repeat(err error, sale inventory.Sale, seq int64, until time.Time) {
	c.repeated.Store(&repeatedRefusal{err: err, epoch: sale.Epoch, version: sale.Version, seq: seq, until: until})
	c.seen.fillTo(sale.Epoch, seq)
}

// refusalCaches has the caches of all sales, and the scans that fill their filters.
type refusalCaches struct {
	now   func() time.Time
	lines *queue.Lines
	sales sync.Map // sale id → *refusalCache; of sales that were used lately
	scans scans
}

func (cs *refusalCaches) init(lines *queue.Lines, now func() time.Time, panics *server.Panics) {
	cs.lines, cs.now = lines, now
	cs.scans.init(now, panics)
}

func (cs *refusalCaches) get(sale string) *refusalCache {
	if known, ok := cs.sales.Load(sale); ok {
		return known.(*refusalCache)
	}
	fresh := &refusalCache{now: cs.now}
	fresh.seen.init(cs.lines.Of(sale), &cs.scans)
	known, _ := cs.sales.LoadOrStore(sale, fresh)
	return known.(*refusalCache)
}

// drop forgets a sale's refusal, because its stock has changed.
func (cs *refusalCaches) drop(sale string) {
	if known, ok := cs.sales.Load(sale); ok {
		known.(*refusalCache).repeated.Store(nil)
	}
}

// forget removes the caches of sales for which Redis was not called lately, with their filters. A request that still
// uses a removed cache works like one of another gateway.
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

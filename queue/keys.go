package queue

import (
	"sync"

	"sluice/store/redis"
)

// DefaultPrefix begins every key and channel where redis.prefix is not set.
const DefaultPrefix = redis.DefaultPrefix

// names are the keys and channels of one installation that belong to no line.
// All begin with its prefix, which keeps installations on one Redis apart.
//
// Channels are hints, never the truth: whoever misses a message finds the
// same news by its own sweep.
type names struct {
	prefix        string
	wakeChannel   string // payload: a sale whose empty line received tickets
	statusChannel string // payload: sale, then "id state" per line
	stockChannel  string // payload: a sale that had no unit left and has some again
	paceKey       string // a number: see Lines.Pace
}

func namesOf(prefix string) names {
	return names{
		prefix: prefix, wakeChannel: prefix + ":wake", statusChannel: prefix + ":status",
		stockChannel: prefix + ":stock", paceKey: prefix + ":{pace}",
	}
}

// keys are the names of one line in Redis. They share one hash tag, so every
// script of the line runs in one slot of a cluster.
type keys struct {
	// hash: epoch, gate, run, rev, base, marks, ledger, version, state, window, cap, limit, total and
	// the counters seq, claimed, served, released; sold_out, full: when it was last told that nothing
	// is left, that it is full
	meta     string
	stock    string // integer: units that can still be reserved
	wait     string // list of order ids, oldest at the tail: the bounded line
	suspect  string // list of order ids that failed or whose worker died, claimed one at a time
	orders   string // hash: order id → record
	holders  string // hash: user → the orders it holds
	lease    string // sorted set: batch id → deadline in ms
	leased   string // hash: batch id → its order ids
	retry    string // sorted set: order id → due time in ms
	due      string // sorted set: confirmed order id → when it must be paid, in ms
	attempts string // hash: order id → failed attempts
	dead     string // list of dead-lettered order ids, newest first
	cancels  string // hash: user → orders of this sale that it has cancelled
	released string // list of the orders released last, newest first: the audit follows them
	// list of "ms, tab, batch id, tab, order ids" of the batches taken over last, newest first; it ends
	// by itself
	lost   string
	steps  string // prefix of the lists of stepsOf
	recent string // list of "sequence, tab, user" of the newest tickets that no longer wait, newest claimed first
	done   string // list of finished order ids whose records are still kept, newest first

	seen *seen // not a key: what this process has seen of the line
}

// The shard is part of every name from the first day, so that a sale can be
// split over several slots without renaming what exists.
const onlyShard = "0"

// keyTable remembers the keys of lines, which are made of many strings. Bounded: of very many sales it forgets all and
// begins again.
type keyTable struct {
	prefix string
	mu     sync.RWMutex
	known  map[string]*keys
}

const mostKnown = 10_000 // lines whose keys are remembered

func (r *keyTable) of(sale string) *keys {
	r.mu.RLock()
	k := r.known[sale]
	r.mu.RUnlock()
	if k != nil {
		return k
	}
	made := lineKeys(r.prefix, sale)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= mostKnown {
		r.known = make(map[string]*keys)
	}
	r.known[sale] = &made
	return &made
}

func lineKeys(prefix, sale string) keys {
	prefix += ":{" + sale + "/" + onlyShard + "}:"
	return keys{
		meta: prefix + "meta", stock: prefix + "stock", wait: prefix + "wait", suspect: prefix + "suspect",
		orders: prefix + "orders", holders: prefix + "holders", lease: prefix + "lease", leased: prefix + "leased",
		retry: prefix + "retry", due: prefix + "due", attempts: prefix + "attempts", dead: prefix +
			"dead", done: prefix + "done",
		cancels: prefix + "cancels", released: prefix + "released",
		lost: prefix + "lost", steps: prefix + "steps:", recent: prefix + "recent", seen: new(seen),
	}
}

// stepsOf is a list: what happened to one order that did not go through at once. It ends by itself, and a rebuild
// leaves it alone.
func (k keys) stepsOf(order string) string { return k.steps + order }

// discard are all keys, those first that lua/discard.lua looks at.
func (k keys) discard() []string {
	return []string{k.meta, k.wait, k.suspect, k.leased, k.retry, k.dead, k.due, k.stock, k.orders, k.holders, k.lease,
		k.attempts, k.done,
		k.released, k.recent, k.cancels}
}

// maxSaleBytes bounds the id of a sale.
const maxSaleBytes = 64

// ValidSaleID reports whether id matches ^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$.
func ValidSaleID(id string) bool {
	if id == "" || len(id) > maxSaleBytes || id[0] == '_' || id[0] == '-' {
		return false
	}
	for i := range len(id) {
		b := id[i]
		if (b < '0' || b > '9') && (b < 'A' || b > 'Z') && (b < 'a' || b > 'z') && b != '_' && b != '-' {
			return false
		}
	}
	return true
}

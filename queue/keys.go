package queue

import (
	"sync"

	"sluice/store/redis"
)

// DefaultPrefix begins every key and channel where redis.prefix is not set.
const DefaultPrefix = redis.DefaultPrefix

// names are the keys and channels of one installation that belong to no line. All begin with its prefix, which keeps
// installations on one Redis apart.
//
// Channels are hints, never the truth: whoever misses a message finds the
// same news by its own sweep.
type names struct {
	prefix        string
	wakeChannel   string // payload: a sale whose empty line received tickets
	statusChannel string // payload: sale, then "id state" per line
	stockChannel  string // payload: a sale that had no unit left and has some again
	drainRateKey  string // a number: see Lines.DrainRate
}

func namesOf(prefix string) names {
	return names{
		prefix: prefix, wakeChannel: prefix + ":wake", statusChannel: prefix + ":status",
		stockChannel: prefix + ":stock", drainRateKey: prefix + ":{pace}",
	}
}

// keys are the names of one line in Redis. They share one hash tag, so every
// script of the line runs in one slot of a cluster.
type keys struct {
	meta     string // hash: see metaSchema
	stock    string // integer: units that can still be reserved
	wait     string // list of order ids, oldest at the tail: the bounded line
	isolated string // list of order ids that failed or whose worker died, claimed one at a time
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
	// list of "ms, tab, batch id, tab, order ids" of the batches taken over last, newest first. It ends by itself
	reclaimed string
	steps     string // prefix of the lists of stepsOf
	recent    string // list of "sequence, tab, user" of the newest tickets that no longer wait, newest claimed first
	done      string // list of finished order ids whose records are still kept, newest first

	seen *watermark // not a key: the newest that this process has seen of the line
}

// The shard is part of every name from the first day. So a sale can be split over several slots
// without renaming what exists.
const onlyShard = "0"

// keyTable remembers the keys of lines, which are made of many strings. Beyond maxKeyTable lines it begins anew.
type keyTable struct {
	prefix string
	mu     sync.RWMutex
	lines  map[string]*keys
}

const maxKeyTable = 10_000

func (r *keyTable) of(sale string) *keys {
	r.mu.RLock()
	k := r.lines[sale]
	r.mu.RUnlock()
	if k != nil {
		return k
	}
	made := lineKeys(r.prefix, sale)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines == nil || len(r.lines) >= maxKeyTable {
		r.lines = make(map[string]*keys)
	}
	r.lines[sale] = &made
	return &made
}

func lineKeys(prefix, sale string) keys {
	prefix += ":{" + sale + "/" + onlyShard + "}:"
	return keys{
		meta: prefix + "meta", stock: prefix + "stock", wait: prefix + "wait", isolated: prefix + "suspect",
		orders: prefix + "orders", holders: prefix + "holders", lease: prefix + "lease", leased: prefix + "leased",
		retry: prefix + "retry", due: prefix + "due", attempts: prefix + "attempts", dead: prefix + "dead",
		done: prefix + "done", cancels: prefix + "cancels", released: prefix + "released",
		reclaimed: prefix + "lost", steps: prefix + "steps:", recent: prefix + "recent", seen: new(watermark),
	}
}

// stepsOf returns the key of a list: what happened to one order that did not go through at once. It ends by itself,
// and a rebuild leaves it alone.
func (k keys) stepsOf(order string) string { return k.steps + order }

// discard returns all keys, those first that lua/discard.lua looks at.
func (k keys) discard() []string {
	return []string{k.meta, k.wait, k.isolated, k.leased, k.retry, k.dead, k.due, k.stock, k.orders, k.holders, k.lease,
		k.attempts, k.done, k.released, k.recent, k.cancels}
}

// The fields of a line's meta hash that Go reads or writes by name.
const (
	metaEpoch    = "epoch"
	metaGate     = "gate"
	metaSeq      = "seq"
	metaClaimed  = "claimed"
	metaReleased = "released"
	metaVersion  = "version"
	metaBase     = "base"
	metaMarks    = "marks"
	metaLedger   = "ledger"
	metaState    = "state"
	metaStarts   = "starts"
	metaEnds     = "ends"
	metaLimit    = "limit"
	metaTotal    = "total"
	metaWaited   = "waited"
)

// metaSchema describes the fields of a line's meta hash.
func metaSchema() []field {
	return []field{
		{metaEpoch, number},    // which loading of the line this is
		{metaGate, serverName}, // while it is rebuilt: where its rebuild began
		{"run", serverName},    // where it was last compared with the ledger
		{"rev", number},        // its revision: the changes of this epoch
		{metaLedger, number},   // newest change of the ledger that it knows of
		{metaVersion, number},  // of the sale's settings, which follow
		{metaState, text},
		{metaStarts, number},
		{metaEnds, number},
		{"cap", number},
		{metaLimit, number},
		{metaTotal, number},
		{metaSeq, number},      // tickets ever admitted
		{metaClaimed, number},  // sequence up to which they have been claimed
		{"served", number},     // tickets that a worker has ended
		{"ended", number},      // tickets that ended before their worker said so
		{metaReleased, number}, // orders released since it was loaded
		{metaBase, number},     // sequence when it was loaded
		{metaMarks, number},    // sequences drawn since that are no tickets
		{"cancelled", number},  // orders that their owners have cancelled
		{"forgotten", number},  // finished orders whose records were dropped
		{"sold_out", number},   // when it was last answered that nothing is left, in ms
		{"full", number},       // when it was last answered that the line is full, in ms
		{"lease", number},      // the longest lease that was given, in ms
		{metaWaited, number},   // writes that waited for replicas
	}
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

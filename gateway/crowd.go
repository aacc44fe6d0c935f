package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/server"
	"sluice/queue"
)

const (
	crowdMost    = 2_000_000        // users of one sale, 16 to 40 MB of their hashes
	crowdsMost   = 4_000_000        // users of all sales
	crowdPause   = time.Second      // between two counts of a sale from the beginning
	crowdRest    = 10               // times as long as the last count took the next one waits
	crowdTimeout = 10 * time.Second // of one count
	crowdGap     = 5_000            // tickets of other gateways that are caught up with in one step
	crowdIdle    = time.Minute      // after which a crowd, and a door, nobody asks for is forgotten
)

// crowd is the users of one line, as 64-bit hashes: a collision sends a
// request to Redis that could have been refused here, nothing worse. It may
// hold users who have left the line; it never lacks one admitted up to seq.
type crowd struct {
	line   *queue.Line
	census *census
	seed   maphash.Seed
	asked  atomic.Int64 // when a refusal was last wanted, unix ns
	used   atomic.Int64 // when the line was last asked for anybody, unix ns

	mu     sync.RWMutex
	users  map[uint64]struct{}
	epoch  int64 // 0: not counted
	seq    int64
	gap    bool // tickets of other gateways are missing that can no longer be named
	busy   bool
	over   bool      // its door was let go: nobody is counted any more
	booked int       // users of this crowd in the census' total
	next   time.Time // when the next count from the beginning may begin

	// The newest tickets that this gateway brought into the line without anybody's in between, and
	// while a count is made their users.
	own       ownTickets
	meanwhile []uint64
}

// ownTickets are the sequences from and to, both included.
type ownTickets struct{ epoch, from, to int64 }

func (o *ownTickets) add(epoch, seq int64) {
	if o.epoch != epoch || seq != o.to+1 {
		o.epoch, o.from = epoch, seq
	}
	o.to = seq
}

func (c *crowd) init(line *queue.Line, census *census) {
	c.line, c.census, c.seed = line, census, maphash.MakeSeed()
	c.used.Store(census.now().UnixNano())
}

func (c *crowd) hash(user string) uint64 { return maphash.String(c.seed, user) }

// lacks reports that the user never was in the line of this epoch up to this
// sequence. False may also mean that nobody has counted.
func (c *crowd) lacks(user string, epoch, seq int64) bool {
	h := c.hash(user)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.epoch != epoch || c.seq < seq {
		return false
	}
	_, there := c.users[h]
	return !there
}

// admitted takes in those whom this gateway has just brought into the line.
func (c *crowd) admitted(epoch int64, told *queue.AdmitResult) {
	c.used.Store(c.census.now().UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range told.Admissions {
		if one := &told.Admissions[i]; one.Err == nil {
			c.add(epoch, &one.Ticket)
		}
	}
}

func (c *crowd) add(epoch int64, t *queue.Ticket) {
	c.own.add(epoch, t.Seq)
	if c.busy {
		c.meanwhile = append(c.meanwhile, c.hash(t.User))
	}
	if c.epoch != epoch {
		return
	}
	if len(c.users) >= crowdMost {
		c.clear()
		return
	}
	c.users[c.hash(t.User)] = struct{}{}
	if t.Seq == c.seq+1 { // else others were admitted elsewhere, who are caught up with when it matters
		c.seq = t.Seq
	}
}

// want sees to it that the crowd will be known up to a sequence. A count from
// the beginning walks all records of the line: not more than one in a pause.
func (c *crowd) want(epoch, seq int64) {
	now := c.census.now()
	c.asked.Store(now.UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.epoch == epoch
	if c.busy || c.over || known && c.seq >= seq {
		return
	}
	if known && !c.gap {
		from := c.seq
		c.begin(func(ctx context.Context) { c.catchUp(ctx, epoch, from) })
	} else if !now.Before(c.next) {
		c.begin(func(ctx context.Context) { c.count(ctx, now) })
	}
}

// begin runs work on its own. The caller holds mu.
func (c *crowd) begin(work func(context.Context)) {
	c.busy = c.census.start(func(ctx context.Context) {
		defer func() { // also when it panics
			c.mu.Lock()
			defer c.mu.Unlock()
			c.busy, c.meanwhile = false, nil
		}()
		work(ctx)
	})
}

// catchUp adds the few who were admitted elsewhere since.
func (c *crowd) catchUp(ctx context.Context, epoch, from int64) {
	users, newest, ok, err := c.line.UsersSince(ctx, epoch, from, crowdGap)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if len(c.users)+len(users) > crowdMost {
		c.clear()
		return
	}
	c.gap = !ok
	for _, user := range users {
		c.users[c.hash(user)] = struct{}{}
	}
	c.seq = max(c.seq, newest)
}

var errHuge = errors.New("too many users to remember")

// count begins anew. Whoever is admitted elsewhere meanwhile has a later
// sequence than the count answers for.
func (c *crowd) count(ctx context.Context, began time.Time) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		now := c.census.now()
		c.next = now.Add(max(crowdPause, crowdRest*now.Sub(began)))
	}()
	users := make(map[uint64]struct{})
	epoch, seq, err := c.line.Users(ctx, func(user string) error {
		users[c.hash(user)] = struct{}{}
		if len(users) > crowdMost || c.census.total.Load()+int64(len(users)) > crowdsMost {
			return errHuge
		}
		return nil
	})
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.meanwhile {
		users[h] = struct{}{}
	}
	if c.own.epoch == epoch && c.own.from <= seq+1 {
		seq = max(seq, c.own.to)
	}
	c.census.total.Add(int64(len(users) - c.booked))
	c.users, c.epoch, c.seq, c.gap, c.booked = users, epoch, seq, false, len(users)
}

// clear forgets everybody. The caller holds mu.
func (c *crowd) clear() {
	c.census.total.Add(-int64(c.booked))
	c.users, c.epoch, c.seq, c.booked = nil, 0, 0, 0
}

// forget frees a crowd that nobody has asked for. It reports whether that is for
// good, because nobody has asked the line for anything.
func (c *crowd) forget(now time.Time) bool {
	idle := func(since *atomic.Int64) bool { return now.UnixNano()-since.Load() >= int64(crowdIdle) }
	if !idle(&c.asked) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return false
	}
	c.clear()
	c.over = idle(&c.used)
	return c.over
}

// census owns the goroutines that count crowds, one at a time per sale.
type census struct {
	now    func() time.Time
	panics *server.Panics
	total  atomic.Int64 // users in all crowds, about: what joined since the last counts is not in it
	mu     sync.Mutex
	over   bool
	ctx    context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func (c *census) init(now func() time.Time, panics *server.Panics) {
	c.now, c.panics = now, panics
	c.ctx, c.stop = context.WithCancel(context.Background())
}

// start runs count on its own; false, and nothing happens, once wait was called.
func (c *census) start(count func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.all.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, crowdTimeout)
		defer cancel()
		defer c.panics.Catch("crowd")
		count(ctx)
	})
	return true
}

// wait ends all counts.
func (c *census) wait() {
	c.mu.Lock()
	c.over = true
	c.stop()
	c.mu.Unlock()
	c.all.Wait()
}

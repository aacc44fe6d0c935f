package admission

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"sluice/queue"
)

const (
	maxSeen    = 2_000_000   // users of one sale, 16 to 40 MB of their hashes
	maxSeenAll = 4_000_000   // users of all sales
	scanPause  = time.Second // between two scans of a line
	scanRest   = 10          // times as long as the last scan took the next one waits
	maxCatchUp = 5_000       // tickets of other gateways that are caught up with in one step
	seenIdle   = time.Minute // after which a filter, and a refusal cache, nobody asks for is forgotten
)

// seenUsers is the filter of users that one line has seen, as 64-bit hashes. A
// collision sends a request to Redis that could have been refused here, nothing
// worse. It may hold users who have left the line. It never lacks one admitted
// up to seq.
type seenUsers struct {
	line  *queue.Line
	scans *scans
	seed  maphash.Seed
	asked atomic.Int64 // when a refusal was last wanted, unix ns
	used  atomic.Int64 // when the line was last asked for anybody, unix ns

	mu     sync.RWMutex
	users  map[uint64]struct{}
	epoch  int64 // 0: not known
	seq    int64
	gap    bool // tickets of other gateways are missing that can no longer be named
	busy   bool
	over   bool      // its cache was let go: nothing is read any more
	booked int       // users of this filter in the total of all
	next   time.Time // when the next scan may begin

	// The newest tickets that this gateway brought into the line without anybody's in between, and
	// their users while a scan runs.
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

func (s *seenUsers) init(line *queue.Line, scans *scans) {
	s.line, s.scans, s.seed = line, scans, maphash.MakeSeed()
	s.used.Store(scans.now().UnixNano())
}

func (s *seenUsers) hash(user string) uint64 { return maphash.String(s.seed, user) }

// lacks reports that the user never was in the line of this epoch up to this
// sequence. False may also mean that it is not known.
func (s *seenUsers) lacks(user string, epoch, seq int64) bool {
	h := s.hash(user)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.epoch != epoch || s.seq < seq {
		return false
	}
	_, there := s.users[h]
	return !there
}

// noteAdmitted adds those whom this gateway has just brought into the line.
func (s *seenUsers) noteAdmitted(epoch int64, result *queue.AdmitResult) {
	s.used.Store(s.scans.now().UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range result.Admissions {
		if one := &result.Admissions[i]; one.Err == nil {
			s.add(epoch, &one.Ticket)
		}
	}
}

func (s *seenUsers) add(epoch int64, t *queue.Ticket) {
	s.own.add(epoch, t.Seq)
	if s.busy {
		s.meanwhile = append(s.meanwhile, s.hash(t.User))
	}
	if s.epoch != epoch {
		return
	}
	if len(s.users) >= maxSeen {
		s.clear()
		return
	}
	s.users[s.hash(t.User)] = struct{}{}
	if t.Seq == s.seq+1 { // else others were admitted elsewhere, who are caught up with when it matters
		s.seq = t.Seq
	}
}

// bringUpTo sees to it that the filter will be complete up to a sequence. A scan
// reads all records of the line: not more than one in a pause.
func (s *seenUsers) bringUpTo(epoch, seq int64) {
	now := s.scans.now()
	s.asked.Store(now.UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.epoch == epoch
	if s.busy || s.over || known && s.seq >= seq {
		return
	}
	if known && !s.gap {
		from := s.seq
		s.begin(func(ctx context.Context) { s.catchUp(ctx, epoch, from) })
	} else if !now.Before(s.next) {
		s.begin(func(ctx context.Context) { s.scan(ctx, now) })
	}
}

// begin runs work on its own. The caller holds mu.
func (s *seenUsers) begin(work func(context.Context)) {
	s.busy = s.scans.start(func(ctx context.Context) {
		defer func() { // also when it panics
			s.mu.Lock()
			defer s.mu.Unlock()
			s.busy, s.meanwhile = false, nil
		}()
		work(ctx)
	})
}

// catchUp adds the few who were admitted elsewhere since.
func (s *seenUsers) catchUp(ctx context.Context, epoch, from int64) {
	users, newest, ok, err := s.line.UsersSince(ctx, epoch, from, maxCatchUp)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return
	}
	if len(s.users)+len(users) > maxSeen {
		s.clear()
		return
	}
	s.gap = !ok
	for _, user := range users {
		s.users[s.hash(user)] = struct{}{}
	}
	s.seq = max(s.seq, newest)
}

var errHuge = errors.New("too many users to remember")

// scan fills the filter anew. Whoever is admitted elsewhere meanwhile has a later
// sequence than the scan answers for.
func (s *seenUsers) scan(ctx context.Context, began time.Time) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := s.scans.now()
		s.next = now.Add(max(scanPause, scanRest*now.Sub(began)))
	}()
	users := make(map[uint64]struct{})
	epoch, seq, err := s.line.Users(ctx, func(user string) error {
		users[s.hash(user)] = struct{}{}
		if len(users) > maxSeen || s.scans.total.Load()+int64(len(users)) > maxSeenAll {
			return errHuge
		}
		return nil
	})
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.meanwhile {
		users[h] = struct{}{}
	}
	if s.own.epoch == epoch && s.own.from <= seq+1 {
		seq = max(seq, s.own.to)
	}
	s.scans.total.Add(int64(len(users) - s.booked))
	s.users, s.epoch, s.seq, s.gap, s.booked = users, epoch, seq, false, len(users)
}

// clear forgets everybody. The caller holds mu.
func (s *seenUsers) clear() {
	s.scans.total.Add(-int64(s.booked))
	s.users, s.epoch, s.seq, s.booked = nil, 0, 0, 0
}

// forget frees a filter that nobody has asked for. It reports whether that is for
// good, because nobody has asked the line for anything.
func (s *seenUsers) forget(now time.Time) bool {
	idle := func(since *atomic.Int64) bool { return now.UnixNano()-since.Load() >= int64(seenIdle) }
	if !idle(&s.asked) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return false
	}
	s.clear()
	s.over = idle(&s.used)
	return s.over
}

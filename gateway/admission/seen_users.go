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
	scanRest   = 10          // the next scan waits this many times the duration of the last
	maxCatchUp = 5_000       // tickets of other gateways that are read in one step
	seenIdle   = time.Minute // after which an unused filter or refusal cache is forgotten
)

// seenUsers is the filter of users that one line has seen, as 64-bit hashes. A collision only sends a request to Redis
// that could have been refused here. The filter may have users who have left the line. It never lacks one admitted up
// to seq.
type seenUsers struct {
	line  *queue.Line
	scans *scans
	seed  maphash.Seed
	asked atomic.Int64 // when a refusal was last looked up, unix ns
	used  atomic.Int64 // when Redis was last called for this line, unix ns

	mu      sync.RWMutex
	users   map[uint64]struct{}
	epoch   int64 // 0: unknown
	seq     int64
	gap     bool // tickets of other gateways are missing and cannot be listed any more
	busy    bool
	closed  bool      // its cache was removed: nothing is read any more
	counted int       // users of this filter as counted in scans.total
	next    time.Time // when the next scan may begin

	// The newest consecutive tickets that this gateway admitted, and their users while a scan runs.
	own       ownTickets
	meanwhile []uint64
}

// ownTickets is the range of sequences from from to to, both included.
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

// lacks reports whether the user certainly never was in the line of this epoch up to this sequence. False may mean
// unknown.
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

// noteAdmitted adds the users whom this gateway has just admitted.
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
	if t.Seq == s.seq+1 { // else other gateways admitted users, whom catchUp reads when needed
		s.seq = t.Seq
	}
}

// fillTo starts what is needed to complete the filter up to a sequence. A scan reads all records of the line, so there
// is at most one in a pause.
func (s *seenUsers) fillTo(epoch, seq int64) {
	now := s.scans.now()
	s.asked.Store(now.UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.epoch == epoch
	if s.busy || s.closed || known && s.seq >= seq {
		return
	}
	if known && !s.gap {
		from := s.seq
		s.startWork(func(ctx context.Context) { s.catchUp(ctx, epoch, from) })
	} else if !now.Before(s.next) {
		s.startWork(func(ctx context.Context) { s.scan(ctx, now) })
	}
}

// startWork runs work in a goroutine. The caller must hold mu.
func (s *seenUsers) startWork(work func(context.Context)) {
	s.busy = s.scans.start(func(ctx context.Context) {
		defer func() { // also after a panic
			s.mu.Lock()
			defer s.mu.Unlock()
			s.busy, s.meanwhile = false, nil
		}()
		work(ctx)
	})
}

// catchUp adds the users whom other gateways have admitted since.
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

// scan fills the filter anew. Users admitted elsewhere meanwhile have later sequences than the one up to which the scan
// is complete.
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
	s.scans.total.Add(int64(len(users) - s.counted))
	s.users, s.epoch, s.seq, s.gap, s.counted = users, epoch, seq, false, len(users)
}

// clear removes all users. The caller must hold mu.
func (s *seenUsers) clear() {
	s.scans.total.Add(-int64(s.counted))
	s.users, s.epoch, s.seq, s.counted = nil, 0, 0, 0
}

// forget empties an unused filter. It reports whether the whole line was unused, so that the filter is closed.
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
	s.closed = idle(&s.used)
	return s.closed
}

package worker

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/queue"
)

// commonFault recognises a fault that befalls every ticket alike. Then no
// ticket is to blame, whatever the fault's code says: attempts stop counting
// until one ticket becomes an order. Safe for concurrent use.
type commonFault struct {
	mu      sync.Mutex
	code    string          // of the failures in a row
	tickets map[string]bool // that had it, since one succeeded last
	batches map[string]bool // in which they had it
	now     func() time.Time
	pardon  time.Time // until when a ticket at its limit is tried once more
}

// A fault is common when so many tickets had it, in so many batches. No ticket of any line may have
// succeeded in between. Only so many are remembered.
const (
	commonTickets = 3
	commonBatches = 2
	// after its end: what it counted before it was known may be somebody's last attempt
	pardonFor = 10 * time.Minute
)

// panicCode is the code of every panic of a handler.
const panicCode = "panic"

// ErrCommon says that every ticket fails alike.
var ErrCommon = errors.New("every ticket fails alike")

func newCommonFault(now func() time.Time) *commonFault {
	return &commonFault{tickets: map[string]bool{}, batches: map[string]bool{}, now: now}
}

// learn takes in the answers to a batch. It returns an error when its failures are of a fault that
// is common. Answers without a code tell nothing.
func (f *commonFault) learn(b queue.Batch, answers []queue.Outcome) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range answers {
		if o.Op == queue.OpConfirm || o.Op == queue.OpPaid {
			f.end()
			return nil
		}
	}
	failed := false
	for _, o := range answers {
		if o.Op != queue.OpRetry || o.Code == "" {
			continue
		}
		if o.Code != f.code {
			f.forget(o.Code)
		}
		if failed = true; len(f.tickets) < commonTickets {
			f.tickets[o.ID] = true
		}
	}
	if failed && len(f.batches) < commonBatches {
		f.batches[b.ID] = true
	}
	if !failed || !f.common() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrCommon, f.code)
}

// succeeded says that a ticket has become an order.
func (f *commonFault) succeeded() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end()
}

// end ends a row of failures, after which what was common is pardoned. The caller holds the lock.
func (f *commonFault) end() {
	if len(f.tickets) >= commonTickets {
		f.pardon = f.now().Add(pardonFor)
	}
	f.forget("")
}

// pardons reports whether a common fault has ended a short while ago.
func (f *commonFault) pardons() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now().Before(f.pardon)
}

// forget begins a new row of failures. The caller holds the lock.
func (f *commonFault) forget(code string) {
	f.code = code
	clear(f.tickets)
	clear(f.batches)
}

func (f *commonFault) common() bool {
	return len(f.tickets) >= commonTickets && len(f.batches) >= commonBatches
}

// stands reports whether every ticket fails alike just now.
func (f *commonFault) stands() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.common()
}

// possible reports whether the failures so far may be of a common fault. Then no ticket is given up
// on: it is tried once more.
func (f *commonFault) possible() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tickets) >= commonTickets
}

// uncounted turns attempts that failed into tickets that go back as they were. A ticket that came
// alone goes into the line, so that the next is tried. One that panics stays where it can only hurt
// itself.
func uncounted(b queue.Batch, answers []queue.Outcome) {
	for i, o := range answers {
		if o.Op == queue.OpRetry {
			answers[i] = queue.Outcome{ID: o.ID, Op: queue.OpBack,
				Join: b.Isolated && o.Code != panicCode && o.Code != ""}
		}
	}
}

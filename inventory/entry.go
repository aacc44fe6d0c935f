package inventory

import (
	"sync"
	"sync/atomic"
	"time"

	"sluice/queue"
)

// Entry is what a gateway knows of one sale without asking a store.
type Entry struct {
	Sale   Sale
	Stock  Stock
	line   *lineEntry
	shared *sharedRate
	stops  *stops
}

// lineEntry outlives the entries of one sale, which are replaced.
type lineEntry struct {
	view        atomic.Pointer[queue.View]
	taking      sync.Mutex
	rate        rateMeter
	flow        flowMeter
	measureFrom time.Time             // when it can be measured again after a stop
	looked      atomic.Int64          // when it was looked at last, in vain or not, unix ns; 0: never
	fault       atomic.Pointer[error] // why that was in vain
	busy        atomic.Int64          // when something moved last, unix ns
}

// Touch says that something is about to move in the line, so that the cache looks at it often.
func (e *Entry) Touch(now time.Time) { e.line.busy.Store(now.UnixNano()) }

// View returns the line as of the last look; its zero value says that there is none yet.
func (e *Entry) View() queue.View {
	if v := e.line.view.Load(); v != nil {
		return *v
	}
	return queue.View{}
}

// Fault returns why the last look at the line was in vain. It is nil when it was not, or there was
// none.
func (e *Entry) Fault() error {
	if err := e.line.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Rate returns the drain rate in tickets per second that expected waits go by; always positive.
func (e *Entry) Rate() float64 { return e.line.rate.drain(e.shared.perSecond.get()).PerSecond }

// Drain returns the rate, and how many tickets were in work at the last look.
func (e *Entry) Drain() Drain {
	d := e.line.rate.drain(e.shared.perSecond.get())
	v := e.View()
	d.InWork, d.Stopped = max(v.Claimed-v.Served, 0), e.Stopped()
	return d
}

// Stopped returns how much longer operators keep workers from the line, as far as anybody knows, in whole seconds. 0:
// they do not.
func (e *Entry) Stopped() time.Duration { return e.stops.remaining(e.Sale.ID) }

// Flow returns how fast the line moves now.
func (e *Entry) Flow() Flow { return e.line.flow.now() }

// Remaining returns how many units can still be ordered.
func (e *Entry) Remaining() int64 {
	if v := e.View(); v.Exists {
		return max(v.Stock, 0)
	}
	return e.Stock.Available
}

package inventory

import (
	"sync/atomic"
	"time"

	"sluice/queue"
)

// Flow is how fast a line moves, in tickets a second over a window of about five seconds. Unlike Rate, which says how fast it could
// be drained, an idle line has a flow of 0. Window is 0 until it has been looked at twice.
type Flow struct {
	Admitted, Drained float64
	Window            time.Duration
}

type flowMeter struct {
	flow  atomic.Pointer[Flow]
	looks []queue.View // of the observing goroutine; the first is the newest that is rateWindow old
}

func (m *flowMeter) now() Flow {
	if p := m.flow.Load(); p != nil {
		return *p
	}
	return Flow{}
}

// observe takes a look at the line into account. Called by one goroutine.
func (m *flowMeter) observe(v queue.View) {
	if n := len(m.looks); n > 0 {
		// Counters that went back are those of another line: it was lost, or dropped.
		if last := m.looks[n-1]; !v.Exists || v.Seq < last.Seq || v.Served < last.Served || !v.Now.After(last.Now) {
			m.looks = m.looks[:0]
		}
	}
	if !v.Exists {
		m.flow.Store(nil)
		return
	}
	m.looks = append(m.looks, v)
	for len(m.looks) > 2 && v.Now.Sub(m.looks[1].Now) >= rateWindow {
		m.looks = m.looks[1:]
	}
	first := m.looks[0]
	p := Flow{Window: v.Now.Sub(first.Now)}
	if seconds := p.Window.Seconds(); seconds > 0 {
		p.Admitted, p.Drained = float64(v.Seq-first.Seq)/seconds, float64(v.Served-first.Served)/seconds
	}
	m.flow.Store(&p)
}

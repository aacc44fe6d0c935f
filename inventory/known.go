package inventory

import (
	"context"
	"math"
	"time"

	"sluice/queue"
)

// knownEvery is how often the pace that is known is exchanged with Redis.
const knownEvery = time.Second

// knownPace is the pace at which any line was last seen draining: what lines
// go by that have not been measured themselves. It outlives the process in
// Redis. All but perSecond belong to the goroutine that looks at the lines.
type knownPace struct {
	perSecond number // 0: none
	kept      float64
	exchanged time.Time
}

// exchange keeps what was measured here, or takes what others have kept.
func (k *knownPace) exchange(ctx context.Context, lines *queue.Lines, now time.Time) {
	if now.Sub(k.exchanged) < knownEvery {
		return
	}
	k.exchanged = now
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	here := k.perSecond.get()
	if here != k.kept && math.Abs(here-k.kept) > k.kept/20 {
		if lines.NotePace(ctx, here) == nil {
			k.kept = here
		}
		return
	}
	if there, err := lines.Pace(ctx); err == nil && there > 0 {
		k.perSecond.set(there)
		k.kept = there
	}
}

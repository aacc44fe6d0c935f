package inventory

import (
	"errors"
	"math"
	"time"

	"sluice/queue"
)

// CapPolicy says how long the lines of sales without a cap of their own may
// get.
type CapPolicy struct {
	Cap     int           // tickets; the upper bound when MaxWait is set
	MinCap  int           // the lower bound when MaxWait is set
	MaxWait time.Duration // the longest wait that is promised; 0: Cap alone counts
}

// Of returns the cap of a line that drains at rate tickets per second.
func (p CapPolicy) Of(rate float64) int {
	if p.MaxWait <= 0 {
		return p.Cap
	}
	tickets := math.Min(rate*p.MaxWait.Seconds(), float64(p.Cap))
	return min(max(int(tickets), p.MinCap), p.Cap)
}

// SetCaps changes the caps of all lines whose sales have none of their own;
// the next round brings them there.
func (k *Keeper) SetCaps(p CapPolicy) {
	k.caps.Store(&p)
	k.Poke()
}

// MeasuredBy makes caps follow the pace of the lines: rate returns a sale's in
// tickets per second. Call it before Run.
func (k *Keeper) MeasuredBy(rate func(sale string) float64) { k.rate = rate }

// capOf is the cap a sale's line should have now.
func (k *Keeper) capOf(s Sale) int {
	if s.Cap > 0 {
		return s.Cap
	}
	return k.caps.Load().Of(k.rate(s.ID))
}

// capFits spares Redis the small movements of a measured cap.
func (k *Keeper) capFits(s Sale, have int64) bool {
	want := int64(k.capOf(s))
	if s.Cap > 0 || k.caps.Load().MaxWait <= 0 {
		return have == want
	}
	return max(have, want)-min(have, want) <= have/20
}

// recapped ignores a line that is being rebuilt: the rebuild sets its cap.
func recapped(err error) error {
	if errors.Is(err, queue.ErrNotReady) {
		return nil
	}
	return err
}

package inventory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"sluice/queue"
)

// CapPolicy says how long lines may get.
type CapPolicy struct {
	Cap     int           // tickets, of sales without a cap of their own; the upper bound when MaxWait is set
	MinCap  int           // the lower bound when MaxWait is set
	MaxWait time.Duration // the longest wait that is promised; 0: caps alone count
}

// Of returns the cap of a line that drains at this pace; own is its sale's cap,
// 0 for none, and takes the place of Cap. With MaxWait, whoever gets the last
// place waits for that long: a pace that nobody has measured, and a line that is
// stopped, promise nothing, and the cap is MinCap.
func (p CapPolicy) Of(own int, pace Pace) int {
	most := p.Cap
	if own > 0 {
		most = own
	}
	if p.MaxWait <= 0 {
		return most
	}
	tickets := 0.0
	if pace.Measured && pace.Stopped == 0 {
		tickets = math.Min(pace.PerSecond*p.MaxWait.Seconds(), float64(most))
	}
	return min(max(int(tickets), p.MinCap), most)
}

// SetCaps changes the caps of all lines; the next round brings them there.
func (k *Reconciler) SetCaps(p CapPolicy) {
	k.caps.Store(&p)
	k.Wake()
}

// MeasuredBy makes caps follow the pace of the lines. Call it before Run.
func (k *Reconciler) MeasuredBy(pace func(sale string) Pace) { k.pace = pace }

// capOf is the cap a sale's line should have now.
func (k *Reconciler) capOf(s Sale) int { return k.caps.Load().Of(s.Cap, k.pace(s.ID)) }

// capFits spares Redis the small movements of a measured cap, within its
// bounds: at them it is exact.
func (k *Reconciler) capFits(s Sale, have int64) bool {
	policy, pace := k.caps.Load(), k.pace(s.ID)
	want := int64(policy.Of(s.Cap, pace))
	if have == want {
		return true
	}
	least, most := int64(policy.Of(s.Cap, Pace{})), int64(CapPolicy{Cap: policy.Cap}.Of(s.Cap, pace))
	return want > least && want < most && max(have, want)-min(have, want) <= have/20
}

// unlessRebuilding ignores a line that is being rebuilt: the rebuild sets its cap.
func unlessRebuilding(err error) error {
	if errors.Is(err, queue.ErrNotReady) {
		return nil
	}
	return err
}

const (
	// mendMost is how often a line is rebuilt for a difference within mendWithin. What comes back so often has a cause
	// that a rebuild does not end, and each keeps shoppers out for a moment.
	mendMost   = 3
	mendWithin = 10 * time.Minute
)

// ErrMended says that a line was rebuilt for differences as often as it may be for now.
var ErrMended = errors.New("the line was rebuilt for differences too often")

// Mend rebuilds the line of a sale that an audit found to differ for some time: phantom units would be sold, fail, come
// back and be sold again. Over all instances it does so three times within ten minutes, and returns ErrMended after
// that. It returns ErrBusy when another instance is at it, or has rebuilt the line since the audit.
func (k *Reconciler) Mend(ctx context.Context, s SaleAudit) error {
	n, err := k.rebuilds(ctx, s.Sale, causeDifference, k.now().Add(-mendWithin))
	if err != nil {
		return err
	}
	if n >= mendMost {
		return fmt.Errorf("%s differs by %d units and %d orders: %w", s.Sale, s.Difference, s.Missing, ErrMended)
	}
	return k.rebuildOf(ctx, s.Sale, finding{epoch: s.Epoch, line: s.Epoch, cause: causeDifference})
}

package inventory

import (
	"math"
	"time"
)

// CapPolicy says how long lines may get.
type CapPolicy struct {
	Cap     int           // tickets, of sales without a cap of their own; the upper bound when MaxWait is set
	MinCap  int           // the lower bound when MaxWait is set
	MaxWait time.Duration // the longest wait that is promised; 0: caps alone count
}

// Of returns the cap of a line that drains like this. The cap own of its sale takes the place of Cap, unless it is 0.
// With MaxWait, whoever gets the last place waits for that long. A rate that nobody has measured, and a line that is
// stopped, promise nothing: the cap is MinCap.
func (p CapPolicy) Of(own int, drain Drain) int {
	most := p.Cap
	if own > 0 {
		most = own
	}
	if p.MaxWait <= 0 {
		return most
	}
	tickets := 0.0
	if drain.Measured && drain.Stopped == 0 {
		tickets = math.Min(drain.PerSecond*p.MaxWait.Seconds(), float64(most))
	}
	return min(max(int(tickets), p.MinCap), most)
}

package inventory

import "context"

// What the tests of this package need to see from outside.
const (
	LineKept     = lineKept
	RebuildLease = rebuildLease
)

// Look reads the numbers of every line once.
func (b *SaleCache) Look(ctx context.Context) { b.look(ctx) }

// Measure audits every sale once.
func (g *Gauges) Measure(ctx context.Context) error { return g.measure(ctx) }

// LookOnce makes an auditor believe its first look.
func (a *Auditor) LookOnce() *Auditor {
	a.looks = 1
	return a
}

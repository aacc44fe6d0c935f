package audit

import "context"

// Measure audits every sale once.
func (g *Gauges) Measure(ctx context.Context) error { return g.measure(ctx) }

// LookOnce makes an auditor believe its first look.
func (a *Auditor) LookOnce() *Auditor {
	a.looks = 1
	return a
}

package reconcile

import (
	"errors"

	"sluice/inventory"
	"sluice/queue"
)

// SetCaps changes the caps of all lines; the next round brings them there.
func (k *Reconciler) SetCaps(p inventory.CapPolicy) {
	k.caps.Store(&p)
	k.Wake()
}

// MeasuredBy makes caps follow how fast the lines drain. Call it before Run.
func (k *Reconciler) MeasuredBy(drain func(sale string) inventory.Drain) { k.drain = drain }

// capOf returns the cap that a sale's line should have now.
func (k *Reconciler) capOf(s inventory.Sale) int { return k.caps.Load().Of(s.Cap, k.drain(s.ID)) }

// capFits reports whether a line may keep its cap. It spares Redis the small movements of a measured cap within its
// bounds: at them it is exact.
func (k *Reconciler) capFits(s inventory.Sale, have int64) bool {
	policy, drain := k.caps.Load(), k.drain(s.ID)
	want := int64(policy.Of(s.Cap, drain))
	if have == want {
		return true
	}
	least := int64(policy.Of(s.Cap, inventory.Drain{}))
	most := int64(inventory.CapPolicy{Cap: policy.Cap}.Of(s.Cap, drain))
	return want > least && want < most && max(have, want)-min(have, want) <= have/20
}

// unlessRebuilding ignores a line that is being rebuilt: the rebuild sets its cap.
func unlessRebuilding(err error) error {
	if errors.Is(err, queue.ErrNotReady) {
		return nil
	}
	return err
}

package gateway

import (
	"hash/maphash"
	"sync"

	"sluice/order"
)

// toldMost bounds each of the two generations of told, about 4 MB at the worst.
const toldMost = 100_000

// told remembers which orders' owners have been answered with the present
// status, so that a long poll that does not say what it has seen waits for the
// next one. Only orders that have left the line and are not at their end are
// in it: before that a shopper knows its 202, after it nothing is to be waited
// for. What is forgotten, or was told by another gateway, is told once more.
// Safe for concurrent use.
type told struct {
	seed       maphash.Seed
	mu         sync.Mutex
	young, old map[uint64]struct{}
}

func newTold() *told { return &told{seed: maphash.MakeSeed(), young: map[uint64]struct{}{}} }

func (t *told) key(v order.View) uint64 {
	return maphash.Comparable(t.seed, struct {
		id, status string
		refund     bool
	}{v.ID, v.Status, v.Refund})
}

// add notes that the owner has the order as it is.
func (t *told) add(v order.View) {
	if !v.LeftLine() || v.Final() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.young[t.key(v)] = struct{}{}
	if len(t.young) >= toldMost {
		t.old, t.young = t.young, make(map[uint64]struct{}, toldMost)
	}
}

func (t *told) has(v order.View) bool {
	key := t.key(v)
	t.mu.Lock()
	defer t.mu.Unlock()
	_, young := t.young[key]
	_, old := t.old[key]
	return young || old
}

package queue

import (
	"slices"
	"sync/atomic"
)

// tuning is what may change of a consumer while it runs.
type tuning struct {
	batch atomic.Int64
	held  atomic.Pointer[held]
}

// held says which lines nobody claims from.
type held struct {
	all   bool
	sales []string
}

func newTuning(batch int) *tuning {
	t := &tuning{}
	t.batch.Store(int64(batch))
	t.held.Store(&held{})
	return t
}

// holds reports whether a line is left alone.
func (t *tuning) holds(sale string) bool {
	h := t.held.Load()
	return h.all || slices.Contains(h.sales, sale)
}

// SetBatch changes how many tickets a worker claims at once, from its next
// claim on; 1 to MaxBatch.
func (c *Consumer) SetBatch(n int) { c.tuning.batch.Store(int64(min(max(n, 1), MaxBatch))) }

// SetPool changes how many batches run at the same time. Workers above a
// smaller size finish the batch they have; size is 1 to 1024.
func (c *Consumer) SetPool(size int) {
	c.pool.Tune(max(size, 1))
}

// Hold stops claiming from the lines of the sales named, or from all lines,
// until it is called again. Batches that run are finished and settled;
// tickets wait where they are.
func (c *Consumer) Hold(all bool, sales []string) {
	c.tuning.held.Store(&held{all: all, sales: slices.Clone(sales)})
	// Whoever was let go has work to look for; the sweep would find it a little later.
	for _, sale := range c.sales() {
		if !c.tuning.holds(sale) {
			c.ready.add(sale)
		}
	}
}

// Holds reports whether the workers leave a line alone.
func (c *Consumer) Holds(sale string) bool { return c.tuning.holds(sale) }

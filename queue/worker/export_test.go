package worker

import (
	"context"
	"time"

	"sluice/queue"
)

// What the tests of this package need to see from outside.
const FirstPause = firstPause

// Sizer shows how large a batch may be.
type Sizer struct{ *sizer }

func NewSizer(lease time.Duration) Sizer { return Sizer{newSizer(lease, false)} }

func (p Sizer) Bound(batch int) int { return p.bound(batch) }

func (p Sizer) Ended(size int, took time.Duration, well bool) { p.learn(size, took, well) }

// WorkMulti is one turn of a worker with several lines.
func (c *Consumer) WorkMulti(sales []string) { c.workMulti(sales) }

// MultiSize is how many lines may go together now.
func (c *Consumer) MultiSize() int { return c.multiSize() }

// Finish runs a batch that was claimed in parts, and settles them.
func (c *Consumer) Finish(ctx context.Context, line *queue.Line, parts []queue.Batch) {
	c.finish(ctx, ctx, line, parts)
}

// PauseFor begins a pause as a worker does that meets a fault in a line.
func (c *Consumer) PauseFor(reason, sale string, err error) { c.pauses.begin(reason, sale, err) }

// Sweep asks some lines once.
func (c *Consumer) Sweep(ctx context.Context, sales []string) error { return c.sweepLines(ctx, sales) }

package queue

import (
	"context"
	"time"
)

// What the tests of this package need to see from outside.
const (
	KeepDone   = keepDone
	KeepDead   = keepDead
	FirstPause = firstPause
)

func ParseTicket(id, record string) (Ticket, error) { return parseTicket(id, record) }

func (t Ticket) Record() string { return t.record() }

// Pace shows how large a batch may be.
type Pace struct{ *pace }

func NewPace(lease time.Duration) Pace { return Pace{newPace(lease)} }

func (p Pace) Bound(batch int) int { return p.bound(batch) }

func (p Pace) Ended(size int, took time.Duration, well bool) { p.ended(size, took, well) }

// What there may be to do in a line.
const (
	Claimable  = int64(claimable)
	TakeOver   = int64(takeOver)
	PromoteDue = int64(promoteDue)
)

// Chores asks lines for what nobody has announced.
func (ls *Lines) Chores(ctx context.Context, sales []string) ([]int64, []error) {
	found, failed := ls.chores(ctx, sales)
	sums := make([]int64, len(found))
	for i, c := range found {
		sums[i] = int64(c)
	}
	return sums, failed
}

// WorkParty is one turn of a worker with several lines.
func (c *Consumer) WorkParty(sales []string) { c.workParty(sales) }

// PartySize is how many lines may go together now.
func (c *Consumer) PartySize() int { return c.partySize() }

// Finish runs a batch that was claimed in parts, and settles them.
func (c *Consumer) Finish(ctx context.Context, line *Line, parts []Batch) {
	c.finish(ctx, ctx, line, parts)
}

// PauseFor begins a pause as a worker does that meets a fault in a line.
func (c *Consumer) PauseFor(reason, sale string, err error) { c.pauses.begin(reason, sale, err) }

// Sweep asks some lines once.
func (c *Consumer) Sweep(ctx context.Context, sales []string) error { return c.sweepLines(ctx, sales) }

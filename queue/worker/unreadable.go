package worker

import (
	"context"
	"errors"
	"fmt"

	"sluice/queue"
)

// buryUnreadable answers the entries of a batch that cannot be read as tickets, by their ids. Whose
// they are, and how many units they took, stands in the line's holdings too. Such an order is
// recorded as failed like any dead letter, and its record is written anew. Its units and its user's
// slot return. One that nobody holds can only be listed as a dead letter. While a store is away
// they go back as they are, and the fault says why.
func (c *Consumer) buryUnreadable(
	ctx context.Context, line *queue.Line, b queue.Batch) (outcomes map[string]queue.Outcome, fault error,
) {
	if len(b.Poisoned) == 0 {
		return nil, nil
	}
	outcomes = make(map[string]queue.Outcome, len(b.Poisoned))
	for _, p := range b.Poisoned {
		outcomes[p.ID] = queue.Outcome{ID: p.ID, Op: queue.OpBack}
		c.log.Error("unreadable ticket", "sale", b.Sale, "order", p.ID, "error", p.Err)
	}
	held, err := line.HoldersOf(ctx, b.Poisoned)
	if err != nil {
		return outcomes, fmt.Errorf("%w: %w", errLine, err)
	}
	owned := b
	owned.Tickets, owned.Poisoned = nil, nil
	for _, p := range b.Poisoned {
		if t, ok := held[p.ID]; ok {
			owned.Tickets = append(owned.Tickets, t)
		} else {
			outcomes[p.ID] = queue.Outcome{ID: p.ID, Op: queue.OpDead, Reason: reasonUnreadable}
		}
	}
	if len(owned.Tickets) == 0 {
		return outcomes, nil
	}
	buried, fault := c.bury(ctx, owned, reasonUnreadable)
	for _, o := range buried {
		o.Record = held[o.ID].Record()
		outcomes[o.ID] = o
	}
	return outcomes, fault
}

// errLine says that Redis could not be asked, of a fault that is not the database's.
var errLine = errors.New("the line could not be read")

const reasonUnreadable = "unreadable ticket"

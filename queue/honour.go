package queue

import (
	"context"
	"fmt"
)

// ReasonLost is why an accepted order failed whose ticket Redis has lost and
// for which no unit was left.
const ReasonLost = "lost"

// Readmit takes an accepted order back into the line whose ticket was lost, or
// records it as failed with ReasonLost when no unit or slot is left. The
// caller vouches that t was admitted, by a signed receipt, and that the
// database does not know it. Repeating it, or calling it for a ticket that is
// not lost, changes nothing and returns the ticket as it is.
// The ticket goes to the end of the line under a new sequence. Returns
// ErrNotReady when the line is missing, of another epoch or being rebuilt.
func (l *Line) Readmit(ctx context.Context, epoch int64, t Ticket) (Ticket, error) {
	k := l.keys
	answer, err := l.durably(ctx, l.scripts.readmit, []string{k.meta, k.stock, k.wait, k.orders, k.holders},
		epoch, t.ID, t.User, t.Units, t.AdmittedAt.UnixMilli(), t.Fingerprint, ReasonLost, l.wakeChannel, l.sale, l.instanceText, k.seen.newest())
	if err != nil {
		return Ticket{}, err
	}
	record, ok := answer.(string)
	if !ok {
		return Ticket{}, fmt.Errorf("readmit %s of %s answered %T", t.ID, l.sale, answer)
	}
	if record == "" {
		return Ticket{}, ErrNotReady
	}
	return ParseTicket(t.ID, record)
}

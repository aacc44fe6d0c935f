package queue

import (
	"context"
	"fmt"
)

// Lose records an accepted order as failed with ReasonLost, for good: a receipt does not bring it back. The caller
// vouches that t was admitted and that the database does not know it. Repeating it, or calling it for a ticket that
// is not lost, changes nothing: made is false, and the ticket is returned as it is. Returns
// ErrNotReady when the line is missing, of another epoch, being rebuilt, or older than what this
// process has seen.
func (l *Line) Lose(ctx context.Context, epoch int64, t Ticket) (lost Ticket, made bool, err error) {
	k := l.keys
	reply, err := l.durably(ctx, l.scripts.lose, []string{k.meta, k.wait, k.orders},
		epoch, t.ID, t.User, t.Units, t.AdmittedAt.UnixMilli(), t.Fingerprint, ReasonLost, l.wakeChannel, l.sale,
		k.seen.newest())
	if err != nil {
		return Ticket{}, false, err
	}
	answer, _ := reply.([]any)
	switch len(answer) {
	case 0:
		return Ticket{}, false, ErrNotReady
	case 2:
		record, _ := answer[1].(string)
		lost, err = ParseTicket(t.ID, record)
		return lost, toInt(answer[0]) == 1, err
	}
	return Ticket{}, false, fmt.Errorf("lose %s of %s answered %v", t.ID, l.sale, reply)
}

package order

import (
	"cmp"

	"sluice/queue"
)

// diedBefore reports that the row is of an earlier life of a ticket, which failed. Since then an operator has put the
// ticket back.
func (r Row) diedBefore(t queue.Ticket) bool {
	return t.State == queue.Queued && r.Status == Failed && r.LateSeq < t.Mark
}

// Contradicts reports that the row says something else than its owner knows, who has cancelled the ticket since.
func (r Row) Contradicts(t queue.Ticket) bool {
	return t.State == queue.Cancelled && r.Status != Cancelled
}

// Outcome tells the line what became of a ticket that has this row.
func (r Row) Outcome(t queue.Ticket) queue.Outcome {
	outcome := r.outcome(t)
	outcome.Again = r.Seq < t.Seq
	return outcome
}

func (r Row) outcome(t queue.Ticket) queue.Outcome {
	switch {
	case t.State != queue.Queued:
		return queue.Outcome{ID: t.ID, Op: queue.OpClose}
	case r.Status == Paid:
		return queue.Outcome{ID: t.ID, Op: queue.OpPaid, At: Time(r.ConfirmedAt), Pay: Time(r.PaidAt)}
	case r.Status == Confirmed:
		return queue.Outcome{ID: t.ID, Op: queue.OpConfirm, At: Time(r.ConfirmedAt), Pay: Time(r.PayBy)}
	case r.Status == Cancelled:
		return queue.Outcome{ID: t.ID, Op: queue.OpEnded, State: queue.Cancelled, At: Time(r.EndedAt)}
	case r.Status == Expired:
		return queue.Outcome{ID: t.ID, Op: queue.OpEnded, State: queue.Expired, At: Time(r.EndedAt)}
	}
	outcome := queue.Outcome{ID: t.ID, Op: queue.OpFail, Reason: cmp.Or(r.Reason, r.Status), At: Time(r.EndedAt)}
	if r.Reason == ReasonGaveUp { // whoever buried it could not say so
		outcome.Op = queue.OpDead
	}
	return outcome
}

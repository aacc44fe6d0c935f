package orders

import (
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// Places are the tickets of a line that has some in every place they can be.
type Places struct {
	Live, Waiting, Leased, Retrying []queue.Ticket
	Cancelled                       queue.Ticket
	Batch                           queue.Batch // the leased ones
}

// SettleAs ends a claimed batch with one outcome for all.
func (w *World) SettleAs(b queue.Batch, op queue.Op) {
	w.T.Helper()
	var outcomes []queue.Outcome
	for _, t := range b.Tickets {
		outcomes = append(outcomes, queue.Outcome{ID: t.ID, Op: op, Delay: time.Hour})
	}
	require.NoError(w.T, w.Line.Settle(w.Ctx, b, outcomes))
}

// Fill makes a sale of 100 units with 6 live orders and 10 tickets. One order is cancelled in the
// database and not yet released, and one ticket is cancelled.
func (w *World) Fill() Places {
	w.T.Helper()
	w.Open(100, 3)
	var p Places
	p.Live = append(w.AdmitMany(4), w.Admit("big", 3))
	gone := w.Admit("gone", 2)
	w.WorkOff(6)
	w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = 1 WHERE id = ?", gone.ID)
	w.Exec("UPDATE stock SET available = available + 2 WHERE sale_id = ?", Sale)
	p.Retrying = w.AdmitMany(2)
	w.SettleAs(w.Claim(2), queue.OpRetry)
	p.Leased = append(w.AdmitMany(2), w.Admit("leaser", 2))
	p.Batch = w.Claim(3)
	p.Cancelled = w.Admit("quitter", 1)
	require.NoError(w.T, w.Line.Cancel(w.Ctx, p.Cancelled.ID, "quitter"))
	p.Waiting = append(w.AdmitMany(3), w.Admit("big2", 3))
	require.EqualValues(w.T, 93, w.Clean().Available)
	require.EqualValues(w.T, 12, w.Clean().InFlight)
	return p
}

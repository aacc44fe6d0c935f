package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// A ticket says which instance took it into the line, and which cancelled it there; the orders it became need not.
func TestTicketsCarryTheirInstance(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		gateway, other := b.Lines.ForInstance("", 17).Of(b.Sale()), b.Lines.ForInstance("", 4096).Of(b.Sale())
		ask := []queue.Request{{ID: "a", User: "ann", Units: 1, Fingerprint: "p", Phone: "13800138000", Locale: "en"},
			{ID: "b", User: "bob", Units: 1, Fingerprint: "p"}}
		admissions, err := gateway.Admit(b.Ctx, b.Epoch, 10, ask)
		require.NoError(t, err)
		again, err := other.Admit(b.Ctx, b.Epoch, 10, ask)
		require.NoError(t, err)
		for i := range ask {
			require.EqualValues(t, 17, admissions[i].Ticket.By)
			require.Equal(t, admissions[i].Ticket, again[i].Ticket, "whoever repeats it")
		}
		require.NoError(t, other.Cancel(b.Ctx, "a", "ann"))
		tickets, _, err := b.Lookup(b.Ctx, []string{"a", "b"})
		require.NoError(t, err)
		require.Equal(t, []int64{17, 4096, 17, 0}, []int64{tickets["a"].By, tickets["a"].EndedBy, tickets["b"].By,
			tickets["b"].EndedBy})
		require.Equal(t, []string{"", ""}, []string{tickets["a"].Locale, tickets["a"].Phone})

		batch := b.MustClaim("b-1", 2)
		require.Equal(t, []int64{17, 17}, []int64{batch.Tickets[0].By, batch.Tickets[1].By})
		require.NoError(t, b.Settle(b.Ctx, batch, []queue.Outcome{{ID: "a", Op: queue.OpClose},
			{ID: "b", Op: queue.OpDead, Reason: "bang"}}))
		require.NoError(t, other.Requeue(b.Ctx, "b"))
		batch = b.MustClaim("b-2", 2)
		require.Zero(t, batch.Tickets[0].By, "the row of its first life knows")
		require.Positive(t, batch.Tickets[0].Mark)
	})
}

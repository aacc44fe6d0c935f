package queue_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// Whatever is read from Redis is either a ticket that survives being written
// again, or an error: never a panic and never half a ticket.
func FuzzParseTicket(f *testing.F) {
	for _, record := range []string{
		"q\t1\t1\t1\tann\t1700000000000\tabcdef\t1\t1\t\t\tann@example.com\t+15550100",
		"c\t12\t3\t2\tbob\t1700000000000\tabcdef\t7\t1\t1700000001000\t\t\t",
		"f\t9007199254740993\t1\t1\tü€\t1\t\t1\t1\t2\tout of stock\t\t",
		"x\t1\t1\t1\tann\t1\tp\t\t\t\t\t\t", "e\t1\t1\t1\tann\t1\tp\t1\t1\t1\t\t\t",
		"p\t1\t1\t1\tann\t1\tp\t1\t1\t1\t\t\t",
		"", "q", "q\t1", strings.Repeat("\t", 12), strings.Repeat("q\t", 13), "z\t1\t1\t1\tann\t1\tp\t1\t1\t\t\t\t",
		"q\t-1\t1\t1\tann\t1\tp\t1\t1\t\t\t\t", "q\t1\t0\t1\tann\t1\tp\t1\t1\t\t\t\t",
		"q\t1\t1\t1\t\t1\tp\t1\t1\t\t\t\t",
		"q\t99999999999999999999\t1\t1\tann\t1\tp\t1\t1\t\t\t\t", "q\t1\t1\t1\tann\t1\tp\t1\t1\t0\t\t\t",
	} {
		f.Add("order", record)
	}
	f.Fuzz(func(t *testing.T, id, record string) {
		ticket, err := queue.ParseTicket(id, record)
		if err != nil {
			require.Equal(t, queue.Ticket{}, ticket)
			require.ErrorContains(t, err, id)
			return
		}
		require.Equal(t, id, ticket.ID)
		require.Positive(t, ticket.Units)
		require.Positive(t, ticket.Slot)
		require.Positive(t, ticket.Seq)
		require.NotEmpty(t, ticket.User)
		written := ticket.Record()
		again, err := queue.ParseTicket(id, written)
		require.NoError(t, err)
		require.Equal(t, ticket, again)
		require.Equal(t, written, again.Record())
	})
}

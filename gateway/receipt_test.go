package gateway_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway"
	"sluice/internal/testkit/stack"
	"sluice/queue"
)

func TestReceiptIsWorthItsOrderOnly(t *testing.T) {
	t.Parallel()
	r := stack.Receipts(t)
	ticket := queue.Ticket{ID: "0193f6a0", User: "ann", State: queue.Queued, Seq: 41, Units: 2,
		AdmittedAt: time.UnixMilli(1_800_000_000_123).UTC(), Fingerprint: "ab12cd34"}
	receipt := r.Sign("phone", ticket)

	read, err := r.Read("phone", "0193f6a0", "ann", receipt)
	require.NoError(t, err)
	require.Equal(t, ticket, read)

	other, err := gateway.NewReceipts("another secret of the tests, long")
	require.NoError(t, err)
	for name, try := range map[string]func() error{
		"sale":    func() error { _, err := r.Read("phone2", ticket.ID, "ann", receipt); return err },
		"order":   func() error { _, err := r.Read("phone", "0193f6a1", "ann", receipt); return err },
		"user":    func() error { _, err := r.Read("phone", ticket.ID, "bob", receipt); return err },
		"moved":   func() error { _, err := r.Read("phon", "e"+ticket.ID, "ann", receipt); return err },
		"secret":  func() error { _, err := other.Read("phone", ticket.ID, "ann", receipt); return err },
		"empty":   func() error { _, err := r.Read("phone", ticket.ID, "ann", ""); return err },
		"changed": func() error { _, err := r.Read("phone", ticket.ID, "ann", "2"+receipt[1:]); return err },
		"longer":  func() error { _, err := r.Read("phone", ticket.ID, "ann", receipt+"A"); return err },
	} {
		require.ErrorIs(t, try(), gateway.ErrReceipt, name)
	}
}

func FuzzReceipt(f *testing.F) {
	r := stack.Receipts(f)
	ticket := queue.Ticket{ID: "id", User: "ann", Seq: 1, Units: 1, AdmittedAt: time.UnixMilli(5), Fingerprint: "x"}
	good := r.Sign("phone", ticket)
	for _, seed := range []string{"", ".", "......", good, good[:len(good)-1], "1.1.1.1.1.x.AAAAAAAAAAAAAAAAAAAAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, receipt string) {
		ticket, err := r.Read("phone", "id", "ann", receipt)
		if err != nil {
			return
		}
		if receipt != good {
			t.Fatalf("forged: %q read as %+v", receipt, ticket)
		}
	})
}

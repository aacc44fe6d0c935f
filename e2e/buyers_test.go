package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buyers order in one sale, each one unit under one key, for as long as they
// are let, and keep what they were told.
type buyers struct {
	cluster *cluster
	sale    string
	next    atomic.Int64

	mu       sync.Mutex
	accepted map[string]string // order id → user
	receipts map[string]string // order id → receipt
	wrong    []string          // answers that no shopper should get
}

const (
	buyersAtOnce = 4
	buyerEvery   = 12 * time.Millisecond
)

// openBuyers opens the sale that they order in.
func openBuyers(t testing.TB, c *cluster, sale string, stock int) *buyers {
	t.Helper()
	c.openSale(t, sale, stock, 1, 100_000)
	return &buyers{cluster: c, sale: sale, accepted: map[string]string{}, receipts: map[string]string{}}
}

// during orders while do runs, and returns when every order was answered.
func (b *buyers) during(ctx context.Context, do func() error) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range buyersAtOnce {
		wg.Go(func() {
			choice := chanceOf(uint64(i))
			for !closed(done) && ctx.Err() == nil {
				b.order(ctx, choice)
				_ = pause(ctx, buyerEvery)
			}
		})
	}
	err := do()
	close(done)
	wg.Wait()
	return err
}

// order asks as a new user until it is told yes or no.
func (b *buyers) order(ctx context.Context, choice chance) {
	user := fmt.Sprintf("%s-buyer-%d", b.sale, b.next.Add(1))
	for ctx.Err() == nil {
		a, err := b.ask(ctx, choice, user, http.MethodPost, "", map[string]string{"Idempotency-Key": user})
		if err == nil && b.heard(user, a) {
			return
		}
		_ = pause(ctx, choice.ms(20, 80))
	}
}

// ask is one exchange of a user with any gateway.
func (b *buyers) ask(ctx context.Context, choice chance, user, method, path string, headers map[string]string) (reply, error) {
	gateway := choice.gateway(b.cluster)
	if gateway == "" {
		return reply{}, errNoGateway
	}
	bearer, err := token(user, false)
	if err != nil {
		return reply{}, err
	}
	return call(ctx, b.cluster.client, method, "http://"+gateway+"/v1/sales/"+b.sale+"/orders"+path, bearer, headers, nil)
}

// heard notes an answer to an order and reports whether it is the last.
func (b *buyers) heard(user string, a reply) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case a.Status == http.StatusAccepted:
		b.accepted[a.OrderID], b.receipts[a.OrderID] = user, a.Receipt
	case a.Status == http.StatusConflict && a.Code == "sold_out":
	case a.Status == http.StatusServiceUnavailable && (a.Code == "unavailable" || a.Code == "queue_full"):
		return false
	case len(b.wrong) < wrongMost:
		b.wrong = append(b.wrong, fmt.Sprintf("%s: %d %s", user, a.Status, a.Raw))
	}
	return !comeBack(a)
}

// orders are the accepted ones and their users.
func (b *buyers) orders() map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.accepted)
}

// unconfirmed says which accepted orders the database does not hold as confirmed; empty is none.
func (b *buyers) unconfirmed(ctx context.Context) string {
	rows, err := b.cluster.stores.orders(ctx, b.sale)
	if err != nil {
		return err.Error()
	}
	var without, other []string
	for id := range b.orders() {
		switch row, there := rows[id]; {
		case !there:
			without = append(without, id)
		case row.Status != "confirmed":
			other = append(other, id+" "+row.Status+" "+row.Reason)
		}
	}
	if len(without)+len(other) == 0 {
		return ""
	}
	slices.Sort(other)
	return fmt.Sprintf("of %d accepted orders %d have no row, %d are not confirmed: %.300v", len(b.orders()), len(without), len(other), other)
}

// faultless requires that no fault was counted against an order: none is
// dead, none has a journal of attempts, no answer was anything but yes or later.
func (b *buyers) faultless(t testing.TB, during string) {
	t.Helper()
	client := b.cluster.stores.client
	dead, err := client.LLen(t.Context(), key(b.sale, "dead")).Result()
	require.NoError(t, err)
	require.Zero(t, dead, "dead letters: %s", during)
	counted, err := client.Keys(t.Context(), key(b.sale, "steps:")+"*").Result()
	require.NoError(t, err)
	if len(counted) > 0 {
		journal, err := client.LRange(t.Context(), counted[0], 0, -1).Result()
		require.NoError(t, err)
		require.Empty(t, counted, "an attempt was counted against orders: %s: %v", during, journal)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.wrong, "answers: %s", during)
}

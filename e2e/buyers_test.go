package e2e

import (
	"context"
	"encoding/json"
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
	by       map[string]int    // gateway's address → orders it accepted
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
	return &buyers{cluster: c, sale: sale,
		accepted: map[string]string{}, receipts: map[string]string{}, by: map[string]int{}}
}

// during orders while do runs, and returns when every order was answered. Each
// buyer keeps to one gateway: one that is silent does not hold up the others.
func (b *buyers) during(ctx context.Context, do func() error) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range buyersAtOnce {
		wg.Go(func() {
			gateways := b.cluster.gateways()
			for !closed(done) && ctx.Err() == nil {
				b.order(ctx, gateways[i%len(gateways)], chanceOf(uint64(i)))
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
func (b *buyers) order(ctx context.Context, n *node, choice chance) {
	for user := b.newcomer(); ctx.Err() == nil; _ = pause(ctx, choice.ms(20, 80)) {
		if gateway, _ := n.addresses(); b.orderAt(ctx, gateway, user) {
			return
		}
	}
}

// newcomer returns a new user.
func (b *buyers) newcomer() string { return fmt.Sprintf("%s-buyer-%d", b.sale, b.next.Add(1)) }

// orderAt asks one gateway once and reports whether the answer was the last.
func (b *buyers) orderAt(ctx context.Context, gateway, user string) bool {
	a, err := b.ask(ctx, gateway, user, http.MethodPost, "", map[string]string{"Idempotency-Key": user})
	return err == nil && b.heard(gateway, user, a)
}

// untilSells orders at one gateway until that accepts one, for some seconds at most.
func (b *buyers) untilSells(ctx context.Context, n *node) error {
	gateway, _ := n.addresses()
	ctx, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	for user := b.newcomer(); !b.orderAt(ctx, gateway, user); {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%s sold nothing within %s: %w", n.name, mendPatience, err)
		}
	}
	return nil
}

// acceptedBy returns how many orders a gateway has accepted so far.
func (b *buyers) acceptedBy(n *node) int {
	gateway, _ := n.addresses()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.by[gateway]
}

// ask makes one request of a user to a gateway.
func (b *buyers) ask(ctx context.Context, gateway, user, method, path string, headers map[string]string,
) (reply, error) {
	if gateway == "" {
		return reply{}, errNoGateway
	}
	bearer, err := token(user, false)
	if err != nil {
		return reply{}, err
	}
	url := "http://" + gateway + "/v1/sales/" + b.sale + "/orders" + path
	return call(ctx, b.cluster.client, method, url, bearer, headers, nil)
}

// heard notes an answer to an order and reports whether it is the last.
func (b *buyers) heard(gateway, user string, a reply) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case a.Status == http.StatusAccepted:
		b.accepted[a.OrderID], b.receipts[a.OrderID] = user, a.Receipt
		b.by[gateway]++
	case a.Status == http.StatusConflict && a.Code == "sold_out":
	case a.Status == http.StatusServiceUnavailable && (a.Code == "unavailable" || a.Code == "queue_full"):
		return false
	case len(b.wrong) < wrongMost:
		b.wrong = append(b.wrong, fmt.Sprintf("%s: %d %s", user, a.Status, a.Raw))
	}
	return !comeBack(a)
}

// orders returns the accepted orders and their users.
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
	return fmt.Sprintf("of %d accepted orders %d have no row, %d are not confirmed: %.300v",
		len(b.orders()), len(without), len(other), other)
}

// faultless requires that no fault was counted against an order: none is
// dead, none has a journal of attempts, no answer was anything but yes or later.
func (b *buyers) faultless(t testing.TB, during string) {
	t.Helper()
	b.undead(t, during)
	counted := b.journals(t)
	if len(counted) > 0 {
		require.Empty(t, counted, "an attempt was counted against orders: %s: %v", during, b.journal(t, counted[0]))
	}
}

// abandoned checks the attempts of orders, except for batches whose worker was cut off while it committed. Each of
// these outlived its lease once, like that of a dead worker.
func (b *buyers) abandoned(t testing.TB, during string) {
	t.Helper()
	b.undead(t, during)
	for _, name := range b.journals(t) {
		for _, entry := range b.journal(t, name) {
			var step struct {
				What    string
				Attempt int
			}
			require.NoError(t, json.Unmarshal([]byte(entry), &step))
			require.Contains(t, []string{"lost", "fulfilled"}, step.What, "%s: %s", during, entry)
			require.LessOrEqual(t, step.Attempt, 2, "%s: %s", during, entry)
		}
	}
}

// undead requires that nothing died and nobody read what no shopper should.
func (b *buyers) undead(t testing.TB, during string) {
	t.Helper()
	dead, err := b.cluster.stores.client.LLen(t.Context(), key(b.sale, "dead")).Result()
	require.NoError(t, err)
	require.Zero(t, dead, "dead letters: %s", during)
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.wrong, "answers: %s", during)
}

// journals returns the orders whose attempts Redis has noted.
func (b *buyers) journals(t testing.TB) []string {
	t.Helper()
	keys, err := b.cluster.stores.client.Keys(t.Context(), key(b.sale, "steps:")+"*").Result()
	require.NoError(t, err)
	return keys
}

func (b *buyers) journal(t testing.TB, name string) []string {
	t.Helper()
	entries, err := b.cluster.stores.client.LRange(t.Context(), name, 0, -1).Result()
	require.NoError(t, err)
	return entries
}

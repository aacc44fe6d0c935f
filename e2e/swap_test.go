package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers/redisnodes"
)

// customers order at a gateway of their choice and remember what it told them.
type customers struct {
	t        *testing.T
	cluster  *cluster
	sale     string
	accepted map[string]string // order → user
}

func (c *customers) url(n *node) string {
	http, _ := n.addresses()
	return "http://" + http + "/v1/sales/" + c.sale + "/orders"
}

// order asks at one gateway until it answers yes or no, and returns what it said.
func (c *customers) order(n *node, user string) reply {
	c.t.Helper()
	var a reply
	bearer, err := token(user, false)
	require.NoError(c.t, err)
	require.Eventually(c.t, func() bool {
		a, err = call(c.t.Context(), c.cluster.client, http.MethodPost, c.url(n), bearer,
			map[string]string{"Idempotency-Key": user}, map[string]any{"quantity": 1})
		return err == nil && !comeBack(a)
	}, askPatience, 5*time.Millisecond, "%s is not answered: %s", user, a.Raw)
	if a.Status == http.StatusAccepted {
		c.accepted[a.OrderID] = user
	}
	return a
}

// recorded waits until the database holds every accepted order, and returns them.
func (c *customers) recorded() map[string]orderRow {
	c.t.Helper()
	var rows map[string]orderRow
	require.Eventually(c.t, func() bool {
		var err error
		rows, err = c.cluster.stores.orders(c.t.Context(), c.sale)
		for id := range c.accepted {
			if _, there := rows[id]; !there {
				return false
			}
		}
		return err == nil
	}, askPatience, 20*time.Millisecond, "accepted orders are not in the database")
	return rows
}

// clean waits until the audit is.
func (c *customers) clean() {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), askPatience)
		defer cancel()
		k := &checker{cluster: c.cluster, findings: &findings{}}
		k.checkAudit(ctx)
		return len(k.findings.wrong) == 0
	}, standMost, 100*time.Millisecond, "the audit never became clean")
}

// TestTheGatewayThatHasSeenLessDoesNotSellOnOlderData swaps the data of a
// running Redis for an older copy. The gateway that knows of no order made
// since is the first to ask: it must not sell a unit that is sold already.
func TestTheGatewayThatHasSeenLessDoesNotSellOnOlderData(t *testing.T) {
	t.Parallel()
	const stock, before, between = 60, 10, 30
	s := openStores(t, testkit.NewDatabase(t, "postgres"), nil)
	c := startCluster(t, s, system{layout: layout{"gateway", "gateway", "worker,notifier"}, logs: t.TempDir()})
	c.openSale(t, "swapped", stock, 1, 10_000)
	buyers := &customers{t: t, cluster: c, sale: "swapped", accepted: map[string]string{}}
	more, less := c.nodes[0], c.nodes[1]
	for i := range before {
		require.Equal(t, http.StatusAccepted, buyers.order(c.nodes[i%2], fmt.Sprintf("early-%d", i)).Status)
	}
	buyers.recorded()
	older, err := redisnodes.Copy(t.Context(), s.redis)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, older.Close()) })
	cancelled := ""
	for i := range between {
		a := buyers.order(more, fmt.Sprintf("between-%d", i))
		require.Equal(t, http.StatusAccepted, a.Status)
		cancelled = a.OrderID
	}
	rows := buyers.recorded()
	require.Len(t, rows, before+between)
	bearer, err := token(rows[cancelled].User, false)
	require.NoError(t, err)
	a, err := call(t.Context(), c.client, http.MethodDelete, buyers.url(more)+"/"+cancelled, bearer, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "cancelled", a.State, "%s", a.Raw)

	require.NoError(t, redisnodes.TakeData(t.Context(), s.redis, older))
	sold := 0
	for i := range stock {
		if buyers.order(less, fmt.Sprintf("late-%d", i)).Status == http.StatusAccepted {
			sold++
		}
	}
	require.Equal(t, stock-before-between+1, sold, "units that were left, the cancelled one among them")
	for id, row := range buyers.recorded() {
		want := "confirmed"
		if id == cancelled {
			want = "cancelled"
		}
		require.Equal(t, want, row.Status, "order %s of %s: %s", id, row.User, row.Reason)
	}
	buyers.clean()
}

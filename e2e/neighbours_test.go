package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// neighbours are quiet sales beside the one that a run is about: orders of several sales go through one transaction, and no
// fault may lose or double one of them either.
type neighbours struct {
	cluster *cluster
	plan    plan
	sales   []string
	wg      sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]map[string]bool // sale → order ids that a shopper was told
}

const (
	neighbourSales = 3
	neighbourStock = 100_000
	neighbourEvery = 20 * time.Millisecond
)

func openNeighbours(t testing.TB, c *cluster, p plan) *neighbours {
	n := &neighbours{cluster: c, plan: p, accepted: map[string]map[string]bool{}}
	for i := range neighbourSales {
		sale := fmt.Sprintf("beside-%d-%d", p.seed, i)
		c.openSale(t, sale, neighbourStock, 1, 10_000)
		n.sales, n.accepted[sale] = append(n.sales, sale), map[string]bool{}
	}
	return n
}

// start sends shoppers to every sale, one after the other, until done is closed.
func (n *neighbours) start(ctx context.Context, done <-chan struct{}) {
	for _, sale := range n.sales {
		n.wg.Go(func() {
			choice := chanceOf(n.plan.seed)
			for i := 0; !closed(done) && ctx.Err() == nil; i++ {
				n.order(ctx, choice, sale, fmt.Sprintf("%s-%d", sale, i))
				_ = pause(ctx, neighbourEvery)
			}
		})
	}
}

// order asks until it is told yes or no, as a shopper with one Idempotency-Key does.
func (n *neighbours) order(ctx context.Context, choice chance, sale, user string) {
	bearer, err := token(user, false)
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		if gateway := choice.gateway(n.cluster); gateway != "" {
			a, err := call(ctx, n.cluster.client, http.MethodPost, "http://"+gateway+"/v1/sales/"+sale+"/orders", bearer,
				map[string]string{"Idempotency-Key": user}, map[string]any{"quantity": 1})
			if err == nil && !comeBack(a) {
				if a.Status == http.StatusAccepted {
					n.mu.Lock()
					n.accepted[sale][a.OrderID] = true
					n.mu.Unlock()
				}
				return
			}
		}
		_ = pause(ctx, choice.ms(20, 80))
	}
}

// busy says what still keeps one of them from being settled.
func (n *neighbours) busy(ctx context.Context) string {
	for _, sale := range n.sales {
		if why, err := n.cluster.stores.busy(ctx, sale); err != nil || why != "" {
			return fmt.Sprintf("%s: %s %v", sale, why, err)
		}
	}
	return ""
}

// decide holds what shoppers were told against the database: each order once, and, unless Redis lost its data, each of them there.
func (n *neighbours) decide(ctx context.Context, v *verdict) {
	good := map[string]bool{"confirmed": true, "expired": n.plan.pays, "failed": n.plan.lossy()}
	orders := 0
	for _, sale := range n.sales {
		rows, err := n.cluster.stores.orders(ctx, sale)
		v.find(err != nil, "read the orders of %s: %v", sale, err)
		users, live := map[string]bool{}, 0
		for id, r := range rows {
			v.find(users[r.User], "%s has two orders in %s", r.User, sale)
			users[r.User] = true
			v.find(!good[r.Status], "order %s of %s is %s: %s", id, sale, r.Status, r.Reason)
			if r.Live {
				live += r.Quantity
			}
		}
		for id := range n.accepted[sale] {
			_, there := rows[id]
			v.find(!there && !n.plan.lossy(), "LOST: order %s of %s was accepted and is not in the database", id, sale)
		}
		total, available, err := n.cluster.stores.stock(ctx, sale)
		v.find(err != nil || total != neighbourStock || total != available+live, "ledger of %s: total %d, available %d, live %d (%v)", sale, total, available, live, err)
		orders += len(n.accepted[sale])
	}
	v.find(orders == 0, "nobody ordered in the sales beside it")
	parties, err := n.cluster.stores.count(ctx, "SELECT COUNT(*) FROM (SELECT batch_id FROM orders GROUP BY batch_id HAVING COUNT(DISTINCT sale_id) > 1) AS parties")
	v.find(err != nil, "count the parties: %v", err)
	v.parties = parties
}

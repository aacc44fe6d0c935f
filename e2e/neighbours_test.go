package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// neighbours are quiet sales beside the one that a run is about: orders of several sales go through one transaction,
// and no fault may lose or double one of them either.
type neighbours struct {
	cluster *cluster
	plan    plan
	sales   []string
	wg      sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]map[string]promised // sale → order id → what its shopper was told
}

// promised is who was told that an order was accepted, and the proof of it.
type promised struct{ user, receipt string }

const (
	neighbourSales = 3
	neighbourStock = 100_000
	neighbourEvery = 20 * time.Millisecond
	neighbourMost  = 400 // shoppers of one of them: where all is slow they must not make it slower without end
)

func openNeighbours(t testing.TB, c *cluster, p plan) *neighbours {
	n := &neighbours{cluster: c, plan: p, accepted: map[string]map[string]promised{}}
	for i := range neighbourSales {
		sale := fmt.Sprintf("beside-%d-%d", p.seed, i)
		c.openSale(t, sale, neighbourStock, 1, 10_000)
		n.sales, n.accepted[sale] = append(n.sales, sale), map[string]promised{}
	}
	return n
}

// start sends shoppers to every sale, one after the other, until done is closed or there were enough.
func (n *neighbours) start(ctx context.Context, done <-chan struct{}) {
	for _, sale := range n.sales {
		n.wg.Go(func() {
			choice := chanceOf(n.plan.seed)
			for i := 0; i < neighbourMost && !closed(done) && ctx.Err() == nil; i++ {
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
			a, err := call(ctx, n.cluster.client, http.MethodPost, "http://"+gateway+"/v1/sales/"+sale+"/orders",
				bearer,
				map[string]string{"Idempotency-Key": user}, map[string]any{"quantity": 1})
			if err == nil && !comeBack(a) {
				if a.Status == http.StatusAccepted {
					n.mu.Lock()
					n.accepted[sale][a.OrderID] = promised{user, a.Receipt}
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

// redeem presents the receipts of orders that went with a Redis that lost its data.
func (n *neighbours) redeem(ctx context.Context, v *findings) {
	choice := chanceOf(n.plan.seed)
	for _, sale := range n.sales {
		rows, err := n.cluster.stores.orders(ctx, sale)
		v.addIf(err != nil, "read the orders of %s: %v", sale, err)
		for id, p := range n.accepted[sale] {
			if _, there := rows[id]; there {
				continue
			}
			a, err := n.show(ctx, choice, sale+"/orders/"+id, p)
			v.addIf(err != nil || a.Status != http.StatusOK, "order %s of %s, with its receipt: %v %s", id, sale, err,
				a.Raw)
		}
	}
}

// show asks for an order with its receipt until a gateway has an answer.
func (n *neighbours) show(ctx context.Context, choice chance, path string, p promised) (a reply, err error) {
	bearer, err := token(p.user, false)
	if err != nil {
		return a, err
	}
	for {
		if gateway := choice.gateway(n.cluster); gateway != "" {
			a, err = call(ctx, n.cluster.client, http.MethodGet, "http://"+gateway+"/v1/sales/"+path, bearer,
				map[string]string{"Sluice-Receipt": p.receipt}, nil)
		}
		if err == nil && !comeBack(a) || pause(ctx, choice.ms(20, 80)) != nil {
			return a, err
		}
	}
}

// check holds what shoppers were told against the database: each order once, and each of them there. One that Redis
// lost comes back on its receipt.
func (n *neighbours) check(ctx context.Context, v *findings) {
	if n.plan.lossy() {
		n.redeem(ctx, v)
		for busy := n.busy(ctx); busy != "" && pause(ctx, lookEvery) == nil; busy = n.busy(ctx) {
			continue
		}
	}
	good := map[string]bool{"confirmed": true, "expired": n.plan.pays}
	orders := 0
	for _, sale := range n.sales {
		rows, err := n.cluster.stores.orders(ctx, sale)
		v.addIf(err != nil, "read the orders of %s: %v", sale, err)
		users, live := map[string]bool{}, 0
		for id, r := range rows {
			v.addIf(users[r.User], "%s has two orders in %s", r.User, sale)
			users[r.User] = true
			lost := r.Status == "failed" && r.Reason == "lost" && n.plan.lossy()
			v.addIf(!good[r.Status] && !lost, "order %s of %s is %s: %s", id, sale, r.Status, r.Reason)
			if r.Live {
				live += r.Quantity
			}
		}
		for id := range n.accepted[sale] {
			_, there := rows[id]
			v.addIf(!there, "LOST: order %s of %s was accepted and is not in the database", id, sale)
		}
		total, available, err := n.cluster.stores.stock(ctx, sale)
		v.addIf(err != nil || total != neighbourStock || total != available+live,
			"ledger of %s: total %d, available %d, live %d (%v)", sale, total, available, live, err)
		orders += len(n.accepted[sale])
	}
	v.addIf(orders == 0, "nobody ordered in the sales beside it")
	multiSale, err := n.cluster.stores.count(ctx,
		"SELECT COUNT(*) FROM (SELECT batch_id FROM orders GROUP BY batch_id HAVING COUNT(DISTINCT sale_id) > 1) AS "+
			"multi_sale")
	v.addIf(err != nil, "count the multi-sale batches: %v", err)
	v.multiSale = multiSale
}

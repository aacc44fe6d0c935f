package e2e

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	asksAtOnce    = 12
	replaysPerRun = 12
	askPatience   = 20 * time.Second // a gateway may need a moment to learn of the last rebuild
)

// replays repeats some accepted requests: the answer must be the same order.
// Only what went with a Redis that lost its data may be as good as new.
func (j *judge) replays(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	rows, err := j.cluster.stores.orders(ctx, j.sale)
	j.verdict.find(err != nil, "read the orders: %v", err)
	done := 0
	for id, r := range j.history.accepted() {
		if done++; done > replaysPerRun {
			return
		}
		bearer, err := token(r.user, false)
		j.verdict.find(err != nil, "token: %v", err)
		v := &visit{load: &loadGenerator{cluster: j.cluster, sale: j.sale, history: j.history},
			choice: chanceOf(uint64(done)), bearer: bearer}
		a := v.order(ctx, r)
		if _, recorded := rows[id]; !recorded && j.plan.lossy() {
			// Neither store knows it any more: the key is as good as new.
			j.verdict.forgotten++
			continue
		}
		same := a.err == nil && a.reply.Status == http.StatusAccepted && a.reply.OrderID == id
		j.verdict.find(!same, "repeating %s, which was order %s: %v %s", r.id, id, a.err, a.reply.Raw)
		j.verdict.find(same && !a.reply.Replayed, "repeating %s was not said to be a repetition", r.id)
	}
}

// redeem presents the receipts of orders that went with a Redis that lost its
// data: each is taken back into the line, or its owner reads that it failed.
func (j *judge) redeem(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	rows, err := j.cluster.stores.orders(ctx, j.sale)
	j.verdict.find(err != nil, "read the orders: %v", err)
	for id, r := range j.history.accepted() {
		if _, recorded := rows[id]; recorded {
			continue
		}
		j.verdict.gone++
		bearer, err := token(r.user, false)
		j.verdict.find(err != nil, "token: %v", err)
		v := &visit{load: &loadGenerator{cluster: j.cluster, sale: j.sale, history: j.history}, choice: chanceOf(0),
			bearer: bearer}
		a := v.insist(ctx, r, http.MethodGet, "/orders/"+id, r.receipt(), nil)
		j.verdict.find(a.err != nil || a.reply.Status != http.StatusOK, "order %s of %s, with its receipt: %v %s", id,
			r.id, a.err, a.reply.Raw)
	}
}

// outcomes asks the shop for every accepted order, as its owner.
func (j *judge) outcomes(ctx context.Context, rows map[string]orderRow) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	accepted := j.history.accepted()
	j.verdict.accepted = len(accepted)
	work := make(chan string)
	var askers sync.WaitGroup
	for n := range asksAtOnce {
		askers.Go(func() {
			choice := chanceOf(uint64(n))
			for id := range work {
				j.outcome(ctx, choice, id, accepted[id], rows)
			}
		})
	}
	for id := range accepted {
		work <- id
	}
	close(work)
	askers.Wait()
}

func (j *judge) outcome(ctx context.Context, choice chance, id string, r *request, rows map[string]orderRow) {
	bearer, err := token(r.user, false)
	if err != nil {
		return
	}
	v := &visit{load: &loadGenerator{cluster: j.cluster, sale: j.sale, history: j.history}, choice: choice,
		bearer: bearer}
	a := v.insist(ctx, r, http.MethodGet, "/orders/"+id, nil, nil)
	row, recorded := rows[id]
	j.mu.Lock()
	defer j.mu.Unlock()
	find := j.verdict.find
	if recorded && row.Reason == "lost" {
		j.verdict.lost++
	}
	find(a.err != nil || a.reply.Status != http.StatusOK, "order %s of %s at rest: %v %d %s", id, r.id, a.err,
		a.reply.Status, a.reply.Raw)
	if a.err != nil || a.reply.Status != http.StatusOK {
		return
	}
	find(!recorded, "order %s of %s is %q for its owner and not in the database", id, r.id, a.reply.State)
	find(recorded && a.reply.State != row.Status, "order %s is %s for its owner and %s in the database", id,
		a.reply.State, row.Status)
	find(!final(a.reply.State), "order %s at rest is %s", id, a.reply.State)
	find(row.Status == "failed" && !j.plan.lossy(), "order %s of %s failed (%s) though Redis lost nothing", id, r.id,
		row.Reason)
	j.losses(r, row)
	j.told(r, row)
}

// told holds the end of an order against what its owner was told before.
func (j *judge) told(r *request, row orderRow) {
	cancelled := false
	for _, a := range r.by(http.MethodDelete) {
		cancelled = cancelled || a.err == nil && a.reply.Status == http.StatusOK
	}
	if cancelled && row.Status != "cancelled" {
		if j.plan.forgets() {
			j.verdict.revived++
		} else {
			j.verdict.find(true, "order %s was cancelled by its owner and is %s", row.ID, row.Status)
		}
	}
	j.verdict.find(row.Status == "cancelled" && len(r.by(http.MethodDelete)) == 0,
		"order %s is cancelled, which nobody asked for", row.ID)
	for _, a := range r.by(http.MethodGet) {
		if a.err != nil || a.reply.Status != http.StatusOK {
			continue
		}
		wrong := a.reply.State == "failed" && row.Status != "failed" || a.reply.State == "confirmed" &&
			row.Status == "failed" ||
			a.reply.State == "paid" && row.Status != "paid"
		j.verdict.find(wrong && !j.plan.lossy(), "order %s was %s for its owner and is now %s", row.ID, a.reply.State,
			row.Status)
	}
}

// news checks that every confirmed order's event went out.
func (j *judge) news(ctx context.Context, rows map[string]orderRow) {
	dead, err := j.cluster.stores.count(ctx, "SELECT COUNT(*) FROM outbox WHERE state <> 1")
	j.verdict.find(err != nil || dead > 0, "%d outbox rows are not delivered (%v)", dead, err)
	if j.plan.lossy() || !j.plan.keepsLog() {
		return
	}
	events, err := j.cluster.stores.events(ctx)
	j.verdict.find(err != nil, "read the event log: %v", err)
	missing, example := 0, ""
	for id, row := range rows {
		event := map[string]string{"confirmed": "order.confirmed", "cancelled": "order.cancelled",
			"failed": "order.failed",
			"paid":   "order.paid", "expired": "order.expired"}[row.Status]
		if events[event+" "+id] == 0 {
			missing, example = missing+1, event+" "+id
		}
	}
	j.verdict.find(missing > 0, "%d events are not in the log, as %s", missing, example)
}

// recovered records how long after the last fault the orders accepted by then were settled.
func (j *judge) recovered(ctx context.Context) {
	j.verdict.recovery = j.settled(ctx, j.breaker.end()).Round(time.Millisecond)
}

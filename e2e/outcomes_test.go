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

// repeatAccepted repeats some accepted requests: the answer must be the same order.
// Only what went with a Redis that lost its data may be as good as new.
func (k *checker) repeatAccepted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	rows, err := k.cluster.stores.orders(ctx, k.sale)
	k.findings.addIf(err != nil, "read the orders: %v", err)
	done := 0
	for id, r := range k.history.accepted() {
		if done++; done > replaysPerRun {
			return
		}
		bearer, err := token(r.user, false)
		k.findings.addIf(err != nil, "token: %v", err)
		v := &visit{load: &loadGenerator{cluster: k.cluster, sale: k.sale, history: k.history},
			choice: chanceOf(uint64(done)), bearer: bearer}
		a := v.order(ctx, r)
		if _, recorded := rows[id]; !recorded && k.plan.lossy() {
			// Neither store knows it any more: the key is as good as new.
			k.findings.forgotten++
			continue
		}
		same := a.err == nil && a.reply.Status == http.StatusAccepted && a.reply.OrderID == id
		k.findings.addIf(!same, "repeating %s, which was order %s: %v %s", r.id, id, a.err, a.reply.Raw)
		k.findings.addIf(same && !a.reply.Replayed, "repeating %s was not said to be a repetition", r.id)
	}
}

// showReceipts presents the receipts of orders that went with a Redis that lost its
// data: each is taken back into the line, or its owner reads that it failed.
func (k *checker) showReceipts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	rows, err := k.cluster.stores.orders(ctx, k.sale)
	k.findings.addIf(err != nil, "read the orders: %v", err)
	for id, r := range k.history.accepted() {
		if _, recorded := rows[id]; recorded {
			continue
		}
		k.findings.gone++
		bearer, err := token(r.user, false)
		k.findings.addIf(err != nil, "token: %v", err)
		v := &visit{load: &loadGenerator{cluster: k.cluster, sale: k.sale, history: k.history}, choice: chanceOf(0),
			bearer: bearer}
		a := v.insist(ctx, r, http.MethodGet, "/orders/"+id, r.receipt(), nil)
		k.findings.addIf(a.err != nil || a.reply.Status != http.StatusOK, "order %s of %s, with its receipt: %v %s", id,
			r.id, a.err, a.reply.Raw)
	}
}

// checkOutcomes asks the shop for every accepted order, as its owner.
func (k *checker) checkOutcomes(ctx context.Context, rows map[string]orderRow) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	accepted := k.history.accepted()
	k.findings.accepted = len(accepted)
	work := make(chan string)
	var askers sync.WaitGroup
	for n := range asksAtOnce {
		askers.Go(func() {
			choice := chanceOf(uint64(n))
			for id := range work {
				k.checkOutcome(ctx, choice, id, accepted[id], rows)
			}
		})
	}
	for id := range accepted {
		work <- id
	}
	close(work)
	askers.Wait()
}

func (k *checker) checkOutcome(ctx context.Context, choice chance, id string, r *request, rows map[string]orderRow) {
	bearer, err := token(r.user, false)
	if err != nil {
		return
	}
	v := &visit{load: &loadGenerator{cluster: k.cluster, sale: k.sale, history: k.history}, choice: choice,
		bearer: bearer}
	a := v.insist(ctx, r, http.MethodGet, "/orders/"+id, nil, nil)
	row, recorded := rows[id]
	k.mu.Lock()
	defer k.mu.Unlock()
	addIf := k.findings.addIf
	if recorded && row.Reason == "lost" {
		k.findings.lost++
	}
	addIf(a.err != nil || a.reply.Status != http.StatusOK, "order %s of %s at rest: %v %d %s", id, r.id, a.err,
		a.reply.Status, a.reply.Raw)
	if a.err != nil || a.reply.Status != http.StatusOK {
		return
	}
	addIf(!recorded, "order %s of %s is %q for its owner and not in the database", id, r.id, a.reply.State)
	addIf(recorded && a.reply.State != row.Status, "order %s is %s for its owner and %s in the database", id,
		a.reply.State, row.Status)
	addIf(!final(a.reply.State), "order %s at rest is %s", id, a.reply.State)
	addIf(row.Status == "failed" && !k.plan.lossy(), "order %s of %s failed (%s) though Redis lost nothing", id, r.id,
		row.Reason)
	k.checkLosses(r, row)
	k.checkTold(r, row)
}

// checkTold holds the end of an order against what its owner was told before.
func (k *checker) checkTold(r *request, row orderRow) {
	cancelled := false
	for _, a := range r.by(http.MethodDelete) {
		cancelled = cancelled || a.err == nil && a.reply.Status == http.StatusOK
	}
	if cancelled && row.Status != "cancelled" {
		if k.plan.forgets() {
			k.findings.revived++
		} else {
			k.findings.addIf(true, "order %s was cancelled by its owner and is %s", row.ID, row.Status)
		}
	}
	k.findings.addIf(row.Status == "cancelled" && len(r.by(http.MethodDelete)) == 0,
		"order %s is cancelled, which nobody asked for", row.ID)
	for _, a := range r.by(http.MethodGet) {
		if a.err != nil || a.reply.Status != http.StatusOK {
			continue
		}
		wrong := a.reply.State == "failed" && row.Status != "failed" || a.reply.State == "confirmed" &&
			row.Status == "failed" ||
			a.reply.State == "paid" && row.Status != "paid"
		k.findings.addIf(wrong && !k.plan.lossy(), "order %s was %s for its owner and is now %s", row.ID, a.reply.State,
			row.Status)
	}
}

// checkEvents checks that every confirmed order's event went out.
func (k *checker) checkEvents(ctx context.Context, rows map[string]orderRow) {
	dead, err := k.cluster.stores.count(ctx, "SELECT COUNT(*) FROM outbox WHERE state <> 1")
	k.findings.addIf(err != nil || dead > 0, "%d outbox rows are not delivered (%v)", dead, err)
	if k.plan.lossy() || !k.plan.keepsLog() {
		return
	}
	events, err := k.cluster.stores.events(ctx)
	k.findings.addIf(err != nil, "read the event log: %v", err)
	missing, example := 0, ""
	for id, row := range rows {
		event := map[string]string{"confirmed": "order.confirmed", "cancelled": "order.cancelled",
			"failed": "order.failed",
			"paid":   "order.paid", "expired": "order.expired"}[row.Status]
		if events[event+" "+id] == 0 {
			missing, example = missing+1, event+" "+id
		}
	}
	k.findings.addIf(missing > 0, "%d events are not in the log, as %s", missing, example)
}

// noteRecovery records how long after the last fault the orders accepted by then were settled.
func (k *checker) noteRecovery(ctx context.Context) {
	k.findings.recovery = k.awaitSettled(ctx, k.breaker.end()).Round(time.Millisecond)
}

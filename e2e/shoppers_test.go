package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// loadGenerator is the shoppers of one sale: each wants one order, some two; some
// click twice, some cancel, some wait for the outcome.
type loadGenerator struct {
	cluster *cluster
	sale    string
	plan    plan
	span    time.Duration // in which they arrive
	history *history
	wg      sync.WaitGroup
}

var errNoGateway = errors.New("no gateway runs")

// start sends the shoppers; wait returns when all of them are done.
func (c *loadGenerator) start(ctx context.Context) {
	for n := range c.plan.shoppers {
		c.wg.Go(func() {
			choice := chance{rand.New(rand.NewPCG(c.plan.seed, uint64(n)))}
			if pause(ctx, time.Duration(choice.Int64N(int64(c.span)))) == nil {
				c.shop(ctx, n, choice)
			}
		})
	}
}

func (c *loadGenerator) shop(ctx context.Context, n int, choice chance) {
	user := fmt.Sprintf("%s-user-%d", c.plan.name, n)
	bearer, err := token(user, false)
	if err != nil {
		return
	}
	v := &visit{load: c, choice: choice, bearer: bearer}
	first := c.request(user, n, 1, choice)
	first.cancels = choice.of(12)
	v.order(ctx, first)
	if choice.of(20) {
		v.order(ctx, first) // the same click again
	}
	if choice.of(15) {
		second := c.request(user, n, 2, choice)
		v.order(ctx, second)
	}
	id := first.orderID()
	if id == "" {
		return
	}
	if first.cancels {
		v.cancel(ctx, first, id)
	} else if c.plan.pays && choice.of(60) {
		v.pay(ctx, first, id, pick(choice, []string{"confirmed", "confirmed", "expired"}))
	} else if choice.of(15) {
		v.follow(ctx, first, id)
	}
}

func (c *loadGenerator) request(user string, n, number int, choice chance) *request {
	r := &request{id: fmt.Sprintf("s%d-%d", n, number), user: user, units: choice.between(1, c.plan.limit)}
	r.key = "key-" + r.id
	c.history.add(r)
	return r
}

// visit is one shopper at the shop.
type visit struct {
	load   *loadGenerator
	choice chance
	bearer string
}

// order asks until it is told yes or no.
func (v *visit) order(ctx context.Context, r *request) answer {
	return v.insist(ctx, r, http.MethodPost, "/orders", r.idempotency(),
		map[string]any{"quantity": r.units, "email": r.email()})
}

// cancel asks until it is told what became of it.
func (v *visit) cancel(ctx context.Context, r *request, id string) {
	v.insist(ctx, r, http.MethodDelete, "/orders/"+id, nil, nil)
}

// insist repeats a request for as long as the answer is to come back later.
func (v *visit) insist(ctx context.Context, r *request, method, path string, headers map[string]string,
	body any) answer {
	for try := 1; ; try++ {
		a := v.send(ctx, r, method, path, headers, body)
		if a.err == nil && !comeBack(a.reply) || v.rest(ctx, try) != nil {
			return a
		}
	}
}

// rest is the pause behind a try. It grows: hundreds who ask a slow machine twenty times a second leave it no time.
func (v *visit) rest(ctx context.Context, try int) error {
	return pause(ctx, v.choice.ms(20, 80)*time.Duration(min(try, 10)))
}

// comeBack reports an answer after which a client repeats its request.
func comeBack(a reply) bool { return a.Status >= http.StatusInternalServerError }

// follow waits for the outcome as a browser would.
func (v *visit) follow(ctx context.Context, r *request, id string) {
	for range 3 {
		a := v.send(ctx, r, http.MethodGet, "/orders/"+id+"?wait=1s", nil, nil)
		if ctx.Err() != nil || a.err == nil && final(a.reply.State) {
			return
		}
		if a.err != nil || comeBack(a.reply) {
			_ = pause(ctx, v.choice.ms(20, 80))
		}
	}
}

func final(state string) bool {
	return state == "confirmed" || state == "failed" || state == "cancelled" || state == "paid" || state == "expired"
}

// send asks any gateway, and notes the answer.
func (v *visit) send(ctx context.Context, r *request, method, path string, headers map[string]string, body any) answer {
	return v.exchange(ctx, r, method, method, path, headers, body)
}

// exchange does what send does, under another name in the history.
func (v *visit) exchange(ctx context.Context, r *request, name, method, path string, headers map[string]string,
	body any) answer {
	a := answer{method: name, sent: time.Now()}
	gateway := v.choice.gateway(v.load.cluster)
	if gateway == "" {
		return answer{method: name, sent: a.sent, err: errNoGateway}
	}
	a.reply, a.err = call(ctx, v.load.cluster.client, method, "http://"+gateway+"/v1/sales/"+v.load.sale+path,
		v.bearer, headers, body)
	a.got = time.Now()
	v.load.history.note(r, a)
	return a
}

// gateway returns the address of a gateway that was last seen running.
func (c chance) gateway(in *cluster) string {
	var urls []string
	for _, n := range in.gateways() {
		if url, _ := n.addresses(); url != "" {
			urls = append(urls, url)
		}
	}
	if len(urls) == 0 {
		return ""
	}
	return pick(c, urls)
}

// pause waits before a client tries again; it synchronises nothing.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

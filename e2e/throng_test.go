package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// throng is the shoppers of one sale. Each orders twice, the second time
// through another gateway. They run on while changes are made, but never far
// ahead of them: every change falls into the rush, however long it takes.
type throng struct {
	cluster  *cluster
	sale     string
	requests int // in all
	client   *http.Client

	sent, answered atomic.Int64
	next           atomic.Int64  // shopper
	changed        chan struct{} // a token for each step that may be sent

	mu       sync.Mutex
	outcomes map[string]int
	accepted map[string]bool // order ids
	wrong    []string
}

func newThrong(c *cluster, sale string, requests int) *throng {
	th := &throng{cluster: c, sale: sale, requests: requests, outcomes: map[string]int{}, accepted: map[string]bool{},
		changed: make(chan struct{}, 2*requests),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: rushAtOnce,
			DisableCompression: true}}}
	th.allow(2 * th.step())
	return th
}

// step is the requests that belong to one change: the change begins among them, and those of the next are sent while it
// is made.
func (th *throng) step() int { return th.requests / (rushChanges + 2) / 2 * 2 }

// stock is what there is: enough for every second shopper, so that it is sold out though many are sent away.
func (th *throng) stock() int { return th.requests / 4 }

// allow lets so many more requests be sent.
func (th *throng) allow(requests int) {
	for range requests / 2 {
		th.changed <- struct{}{}
	}
}

// run returns when all requests were answered.
func (th *throng) run(ctx context.Context) {
	defer th.client.CloseIdleConnections()
	var all sync.WaitGroup
	for range rushAtOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				n := th.next.Add(1)
				if n > int64(th.requests/2) {
					return
				}
				select {
				case <-th.changed:
					th.shop(ctx, int(n))
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
}

// shop places one shopper's two orders.
func (th *throng) shop(ctx context.Context, n int) {
	bearer, err := token("shopper-"+strconv.Itoa(n), false)
	if err != nil {
		th.complain("no token: %v", err)
		return
	}
	gateways := th.cluster.gateways()
	first := th.order(ctx, gateways[n%len(gateways)], bearer)
	second := th.order(ctx, gateways[(n+1)%len(gateways)], bearer)
	switch {
	case first.Code == "" && second.Code != "limit_reached" && second.Code != "rate_limited":
		th.complain("shopper %d has order %s and was told %d %s", n, first.OrderID, second.Status, second.Code)
	case second.Code == "limit_reached" && second.OrderID != first.OrderID:
		th.complain("shopper %d has order %q and was told of %q", n, first.OrderID, second.OrderID)
	}
}

// rushContract is what the contract lets a healthy system answer to an order.
var rushContract = map[int][]string{http.StatusAccepted: {""}, http.StatusConflict: {"sold_out", "limit_reached"},
	http.StatusTooManyRequests: {"rate_limited"}, http.StatusServiceUnavailable: {"queue_full"}}

func (th *throng) order(ctx context.Context, at *node, bearer string) reply {
	addr, _ := at.addresses()
	th.sent.Add(1)
	a, err := call(ctx, th.client, http.MethodPost, "http://"+addr+"/v1/sales/"+th.sale+"/orders", bearer, nil, nil)
	th.answered.Add(1)
	th.mu.Lock()
	defer th.mu.Unlock()
	th.outcomes[fmt.Sprint(a.Status, " ", a.Code)]++
	named := false
	for _, code := range rushContract[a.Status] {
		named = named || code == a.Code
	}
	if err != nil || !named {
		th.wrong = append(th.wrong, fmt.Sprintf("answer %d %q, error %v", a.Status, a.Code, err))
	}
	if a.Status == http.StatusAccepted {
		th.accepted[a.OrderID] = true
	}
	return a
}

func (th *throng) complain(format string, args ...any) {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.wrong = append(th.wrong, fmt.Sprintf(format, args...))
}

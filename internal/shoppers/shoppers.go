// Package shoppers plays the shoppers of a demonstration over HTTP.
package shoppers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/auth"
)

// Shoppers simulates the shoppers of one sale. Each orders over HTTP and waits for the outcome. Every tenth clicks
// twice, every twentieth tries a second order.
type Shoppers struct {
	base, sale string
	size       int
	auth       auth.Config
	now        func() time.Time
	client     *http.Client

	answered, settled atomic.Int64
	mu                sync.Mutex
	outcomes          map[string]int
	answers, waits    []time.Duration
	doubles, seconds  int // clicks repeated; second orders tried
	extra             int // repeats that made another order: must be 0
}

const (
	atOnce   = 200 // shoppers that are active at a time
	maxTries = 20  // how often a shopper tries again after a Retry-After
)

// New returns size shoppers that want a unit of a sale, with tokens signed by auth.
func New(addr, sale string, size int, auth auth.Config, now func() time.Time) *Shoppers {
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce, MaxConnsPerHost: atOnce}
	return &Shoppers{base: "http://" + addr, sale: sale, size: size, auth: auth, now: now,
		client: &http.Client{Transport: transport, Timeout: time.Minute}, outcomes: map[string]int{}}
}

// Run runs all shoppers and writes their progress to w.
func (c *Shoppers) Run(ctx context.Context, w io.Writer) error {
	defer c.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		c.progress(ctx, w)
	}()
	shoppers := make(chan int)
	errs := make(chan error, atOnce)
	var workers sync.WaitGroup
	for range min(atOnce, c.size) {
		workers.Go(func() {
			for n := range shoppers {
				if err := c.visit(ctx, n); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for n := range c.size {
		shoppers <- n
	}
	close(shoppers)
	workers.Wait()
	cancel()
	<-shown
	select {
	case err := <-errs:
		return fmt.Errorf("a shopper was not answered: %w", err)
	default:
		return nil
	}
}

// visit makes one shopper order and wait for the outcome.
func (c *Shoppers) visit(ctx context.Context, n int) error {
	user := "shopper-" + strconv.Itoa(n)
	token, err := auth.Mint(c.auth, user, false, time.Hour, c.now())
	if err != nil {
		return err
	}
	key := user + "-click"
	first, err := c.order(ctx, token, key)
	if err != nil {
		return err
	}
	if n%10 == 0 {
		if err := c.orderAgain(ctx, token, key, first, &c.doubles); err != nil {
			return err
		}
	}
	if n%20 == 0 {
		if err := c.orderAgain(ctx, token, key+"-2", first, &c.seconds); err != nil {
			return err
		}
	}
	c.answered.Add(1)
	outcome := first.Code
	if first.OrderID != "" && first.Code == "" {
		if outcome, err = c.follow(ctx, token, first); err != nil {
			return err
		}
	}
	c.settled.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcome]++
	c.answers = append(c.answers, first.took)
	if outcome == "confirmed" {
		c.waits = append(c.waits, c.now().Sub(first.at))
	}
	return nil
}

type orderAnswer struct {
	OrderID string `json:"order_id"`
	Status  any    `json:"status"`
	Code    string `json:"code"`
	Links   struct {
		Self string `json:"self"`
	} `json:"links"`
	at   time.Time
	took time.Duration
}

// order places an order, and tries again while the answer has a Retry-After.
func (c *Shoppers) order(ctx context.Context, token, key string) (orderAnswer, error) {
	for try := 1; ; try++ {
		var a orderAnswer
		at := c.now()
		wait, err := c.call(ctx, ask{http.MethodPost, "/v1/sales/" + c.sale + "/orders", token, key}, &a)
		if err != nil {
			return a, err
		}
		a.at, a.took = at, c.now().Sub(at)
		if a.Code != "queue_full" && a.Code != "unavailable" || try == maxTries {
			return a, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return a, ctx.Err()
		}
	}
}

// orderAgain orders once more and counts an answer with another order as extra.
func (c *Shoppers) orderAgain(ctx context.Context, token, key string, first orderAnswer, count *int) error {
	second, err := c.order(ctx, token, key)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*count++
	if second.Code == "" && first.Code == "" && second.OrderID != first.OrderID {
		c.extra++
	}
	return nil
}

// follow long-polls until the order has left the line, and returns its status.
func (c *Shoppers) follow(ctx context.Context, token string, a orderAnswer) (string, error) {
	for {
		var o orderAnswer
		if _, err := c.call(ctx, ask{http.MethodGet, a.Links.Self + "?wait=20s", token, ""}, &o); err != nil {
			return "", err
		}
		status, _ := o.Status.(string)
		if status != "queued" && status != "processing" {
			return status, nil
		}
	}
}

// ask is one request of a shopper; key is its Idempotency-Key, if any.
type ask struct{ method, path, token, key string }

// call makes a request, decodes the answer into into, and returns its Retry-After.
func (c *Shoppers) call(ctx context.Context, a ask, into any) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, a.method, c.base+a.path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	if a.key != "" {
		req.Header.Set("Idempotency-Key", a.key)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return 0, fmt.Errorf("%s %s answered %d with %q", a.method, a.path, resp.StatusCode, body)
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		seconds = 1
	}
	return time.Duration(seconds) * time.Second, nil
}

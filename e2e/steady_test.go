package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	steadyRate   = 200 // orders a second
	steadyAtOnce = 64
	steadyStock  = 20_000
)

// steady is shoppers who come at one rate, whatever happens to the processes. Each asks until it is told yes or no.
type steady struct {
	cluster *cluster
	sale    string
	running sync.WaitGroup
	stop    context.CancelFunc

	mu       sync.Mutex
	gateways []*node
	accepted map[string]bool // order ids
	refused  map[string]int  // final refusals, by code
	offered  int
	retries  int
}

func startSteady(c *cluster, sale string, gateways ...*node) *steady {
	ctx, stop := context.WithCancel(c.lasts)
	s := &steady{cluster: c, sale: sale, stop: stop, gateways: gateways, accepted: map[string]bool{},
		refused: map[string]int{}}
	s.running.Go(func() { s.send(ctx) })
	return s
}

// through says which gateways shoppers find from now on.
func (s *steady) through(gateways ...*node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gateways = gateways
}

func (s *steady) gateway(n int) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gateways[n%len(s.gateways)]
}

func (s *steady) send(ctx context.Context) {
	slots := make(chan struct{}, steadyAtOnce)
	tick := time.NewTicker(time.Second / steadyRate)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		s.offered++
		s.mu.Unlock()
		s.running.Go(func() {
			defer func() { <-slots }()
			s.shop(s.cluster.lasts, n)
		})
	}
}

// shop runs one shopper. After a Retry-After, or without an answer, it repeats the request at the next gateway.
func (s *steady) shop(ctx context.Context, n int) {
	user := fmt.Sprintf("%s-%d", s.sale, n)
	bearer, err := token(user, false)
	if err != nil {
		return
	}
	for try := 0; ctx.Err() == nil; try++ {
		if url, _ := s.gateway(n + try).addresses(); url != "" {
			a, err := call(ctx, s.cluster.client, http.MethodPost, "http://"+url+"/v1/sales/"+s.sale+"/orders", bearer,
				map[string]string{"Idempotency-Key": "key-" + user}, nil)
			if err == nil && !comeBack(a) {
				s.note(a)
				return
			}
		}
		s.mu.Lock()
		s.retries++
		s.mu.Unlock()
		if pause(ctx, 20*time.Millisecond) != nil {
			return
		}
	}
}

func (s *steady) note(a reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Status == http.StatusAccepted {
		s.accepted[a.OrderID] = true
	} else {
		s.refused[fmt.Sprint(a.Status, " ", a.Code)]++
	}
}

func (s *steady) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepted)
}

// more returns when so many more orders were accepted.
func (s *steady) more(t *testing.T, orders int) {
	t.Helper()
	before := s.count()
	require.Eventually(t, func() bool { return s.count() >= before+orders }, startPatience, 5*time.Millisecond,
		"orders are taken")
}

// endAndCheck ends the rush and compares what shoppers were told with both stores. asked is a node that runs.
func (s *steady) endAndCheck(t *testing.T, asked *node) {
	t.Helper()
	s.stop()
	s.running.Wait()
	require.Empty(t, s.refused, "there are units for everybody")
	stores := s.cluster.stores
	busy := "not looked yet"
	require.Eventually(t, func() bool {
		var err error
		busy, err = stores.busy(t.Context(), s.sale)
		return err == nil && busy == ""
	}, quietPatience, lookEvery, "the line comes to rest: %s", &busy)
	rows, err := stores.orders(t.Context(), s.sale)
	require.NoError(t, err)
	var lost []string
	for id := range s.accepted {
		if rows[id].Status != "confirmed" {
			lost = append(lost, id+" "+rows[id].Status)
		}
	}
	slices.Sort(lost)
	require.Empty(t, lost, "orders that were answered 202 and are not confirmed")
	require.Len(t, rows, len(s.accepted), "and no other")
	_, available, err := stores.stock(t.Context(), s.sale)
	require.NoError(t, err)
	require.Equal(t, steadyStock-len(s.accepted), available)
	_, ops := asked.addresses()
	sh := shell{t: t, path: asked.binary, env: []string{"PATH=/usr/bin:/bin", "SLUICE_AUTH__SECRET=" + secret}}
	sh.ok("audit", "--ops", "http://"+ops)
	t.Logf("%d orders offered at %d a second, %d accepted and confirmed, %d asked again", s.offered, steadyRate,
		len(s.accepted), s.retries)
}

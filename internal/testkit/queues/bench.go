// Package queues is what surrounds one line in tests. It has a Redis, the line of an open sale, and looks behind it.
package queues

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

const (
	// Rate is the drain rate by which admissions tell the expected wait, tickets a second.
	Rate = 100.0
	// Long is a lease that stands for the whole test.
	Long = 10 * time.Minute
)

// Bench is one line on one Redis, with the raw client to look behind it. It is for one goroutine at a time.
type Bench struct {
	*queue.Line
	T     testing.TB
	Ctx   context.Context
	Redis *redis.Client
	Epoch int64 // of the line's last loading
	count int   // tickets that Enqueue has admitted
}

// EachRedis runs a test on an in-process Redis and on a real one, beside other tests.
func EachRedis(t *testing.T, test func(t *testing.T, addr string)) {
	t.Helper()
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) { test(t, kind.Addr) })
	}
}

// OpenSale returns the settings of a sale that admits right now.
func OpenSale() queue.Settings {
	now := time.Now()
	return queue.Settings{Epoch: 1, Version: 1, State: "open", StartsAt: now.Add(-time.Hour),
		EndsAt: now.Add(time.Hour), Cap: 1000, Limit: 3, Total: 5000}
}

// Open returns a bench with the line of one sale on the Redis at addr.
func Open(t testing.TB, addr string, s queue.Settings) *Bench {
	t.Helper()
	return OpenOn(t, testkit.ProductClient(t, addr), "sale", s)
}

// OpenOn returns a bench with the line of a sale, loaded with all its units in stock.
func OpenOn(t testing.TB, rdb *redis.Client, sale string, s queue.Settings) *Bench {
	t.Helper()
	b := On(t, rdb, sale)
	b.Load(s)
	return b
}

// On returns a bench with the line of a sale as it is. It has a raw client only where Redis is one server.
func On(t testing.TB, rdb redis.UniversalClient, sale string) *Bench {
	t.Helper()
	raw, _ := rdb.(*redis.Client)
	return &Bench{Line: queue.NewLines(rdb, queue.DefaultPrefix).Of(sale), T: t, Ctx: context.Background(), Redis: raw,
		Epoch: 1}
}

// Load loads the line with all units of its sale in stock.
func (b *Bench) Load(s queue.Settings) {
	b.T.Helper()
	b.Epoch = s.Epoch
	began, err := b.Begin(b.Ctx, s.Epoch)
	require.NoError(b.T, err)
	require.True(b.T, began)
	require.NoError(b.T, b.Reopen(b.Ctx, s, queue.Reopened{Stock: s.Total}))
}

// SaleOn returns the id of a sale whose line is on that master.
func SaleOn(c *testkit.SmallCluster, master int) string {
	return c.On(master, "sale", func(sale string) string { return "{" + sale + "/0}" })
}

// Key returns the name of one key of the line.
func (b *Bench) Key(name string) string { return "sluice:{" + b.Sale() + "/0}:" + name }

// Ask returns a request for one unit.
func Ask(id, user string) queue.Request {
	return queue.Request{ID: id, User: user, Units: 1, Fingerprint: "print", Email: user + "@example.com",
		Phone: "+15550100"}
}

// MustAdmit admits requests and returns what became of each.
func (b *Bench) MustAdmit(requests ...queue.Request) []queue.Admission {
	b.T.Helper()
	admissions, err := b.Admit(b.Ctx, b.Epoch, Rate, requests)
	require.NoError(b.T, err)
	require.Len(b.T, admissions, len(requests))
	return admissions
}

// Enqueue admits n tickets of as many users and returns their ids in order.
func (b *Bench) Enqueue(n int) []string {
	b.T.Helper()
	ids := make([]string, 0, n)
	for len(ids) < n {
		var requests []queue.Request
		for len(requests) < min(queue.MaxAdmit, n-len(ids)) {
			b.count++
			requests = append(requests, Ask(fmt.Sprintf("%s-%05d", b.Sale(), b.count),
				fmt.Sprintf("user-%05d", b.count)))
		}
		for i, a := range b.MustAdmit(requests...) {
			require.NoError(b.T, a.Err)
			ids = append(ids, requests[i].ID)
		}
	}
	return ids
}

// MustClaim takes up to n tickets for as long as the test runs.
func (b *Bench) MustClaim(id string, n int) queue.Batch {
	b.T.Helper()
	batch, err := b.Claim(b.Ctx, id, n, Long)
	require.NoError(b.T, err)
	return batch
}

// SettleAll ends every ticket of a batch alike.
func (b *Bench) SettleAll(batch queue.Batch, op queue.Op) {
	b.T.Helper()
	require.NoError(b.T, b.Settle(b.Ctx, batch, Outcomes(batch, op)))
}

// Outcomes answers every ticket of a batch alike.
func Outcomes(batch queue.Batch, op queue.Op) []queue.Outcome {
	var outcomes []queue.Outcome
	for _, t := range batch.Tickets {
		outcomes = append(outcomes, queue.Outcome{ID: t.ID, Op: op, Reason: "because", Delay: time.Hour})
	}
	return outcomes
}

// IDs returns the ids of a batch in their order.
func IDs(batch queue.Batch) []string {
	var list []string
	for _, t := range batch.Tickets {
		list = append(list, t.ID)
	}
	return list
}

// EndLease lets the lease of a batch run out now.
func (b *Bench) EndLease(batch string) {
	b.T.Helper()
	require.NoError(b.T, b.Redis.ZAddXX(b.Ctx, b.Key("lease"), redis.Z{Score: 1, Member: batch}).Err())
}

// EndDelay lets the delay of a retried ticket be over now.
func (b *Bench) EndDelay(id string) {
	b.T.Helper()
	require.NoError(b.T, b.Redis.ZAddXX(b.Ctx, b.Key("retry"), redis.Z{Score: 1, Member: id}).Err())
}

// Confirmed returns an order of one unit as the ledger knows it.
func Confirmed(id, user string, seq int64) queue.Ticket {
	at := time.UnixMilli(time.Now().UnixMilli()).UTC()
	return queue.Ticket{ID: id, User: user, State: queue.Confirmed, Seq: seq, Units: 1, Slot: 1, AdmittedAt: at,
		At: at, Fingerprint: "print", Position: 1}
}

// Rebuild does what the owner of the ledger does; live is what the ledger knows. It returns the surviving tickets by
// id.
func (b *Bench) Rebuild(epoch int64, live []queue.Ticket) []string {
	b.T.Helper()
	began, err := b.Begin(b.Ctx, epoch)
	require.NoError(b.T, err)
	require.True(b.T, began)
	left, err := b.Survey(b.Ctx, epoch)
	require.NoError(b.T, err)
	require.NoError(b.T, b.Restore(b.Ctx, epoch, live, left))
	s := OpenSale()
	s.Epoch, s.Version = epoch, epoch
	stock, seq, ledger := s.Total, int64(0), map[string]bool{}
	for _, t := range live {
		ledger[t.ID] = true
		stock, seq = stock-int64(t.Units), max(seq, t.Seq)
	}
	var names []string
	for _, t := range left.Tickets {
		names = append(names, t.ID)
		if t.State == queue.Queued && !ledger[t.ID] {
			stock -= int64(t.Units)
		}
	}
	require.NoError(b.T, b.Reopen(b.Ctx, s, queue.Reopened{Stock: stock, Seq: seq}))
	b.Epoch = epoch
	slices.Sort(names)
	return names
}

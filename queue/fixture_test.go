package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

const (
	rate = 100.0            // tickets per second, for the expected wait
	long = 10 * time.Minute // a lease that stands for the whole test
)

// box is one line on one Redis, with the raw client to look behind it.
type box struct {
	*queue.Line
	t     testing.TB
	ctx   context.Context
	lines *queue.Lines
	rdb   *redis.Client
	epoch int64
	count int // tickets that enqueue has admitted
}

// eachRedis runs a test on an in-process Redis and on a real one.
func eachRedis(t *testing.T, test func(t *testing.T, addr string)) {
	t.Helper()
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) { test(t, kind.Addr) })
	}
}

// openSale is a sale that admits right now.
func openSale() queue.Settings {
	now := time.Now()
	return queue.Settings{Epoch: 1, Version: 1, State: "open", StartsAt: now.Add(-time.Hour),
		EndsAt: now.Add(time.Hour), Cap: 1000, Limit: 3, Total: 5000}
}

func newBox(t testing.TB, addr string, s queue.Settings) *box {
	t.Helper()
	return boxOn(t, testkit.ProductClient(t, addr), "sale", s)
}

func boxOn(t testing.TB, rdb *redis.Client, sale string, s queue.Settings) *box {
	t.Helper()
	lines := queue.NewLines(rdb, queue.DefaultPrefix)
	b := &box{Line: lines.Of(sale), t: t, ctx: context.Background(), lines: lines, rdb: rdb, epoch: s.Epoch}
	began, err := b.Begin(b.ctx, s.Epoch)
	require.NoError(t, err)
	require.True(t, began)
	require.NoError(t, b.Reopen(b.ctx, s, queue.Reopened{Stock: s.Total}))
	return b
}

func (b *box) key(name string) string { return "sluice:{" + b.Sale() + "/0}:" + name }

// ask is a request for one unit.
func ask(id, user string) queue.Request {
	return queue.Request{ID: id, User: user, Units: 1, Fingerprint: "print", Email: user + "@example.com",
		Phone: "+15550100"}
}

func (b *box) admit(requests ...queue.Request) []queue.Admission {
	b.t.Helper()
	admissions, err := b.Admit(b.ctx, b.epoch, rate, requests)
	require.NoError(b.t, err)
	require.Len(b.t, admissions, len(requests))
	return admissions
}

// enqueue admits n tickets of as many users and returns their ids in order.
func (b *box) enqueue(n int) []string {
	b.t.Helper()
	ids := make([]string, 0, n)
	for len(ids) < n {
		var requests []queue.Request
		for len(requests) < min(queue.MaxAdmit, n-len(ids)) {
			b.count++
			requests = append(requests, ask(fmt.Sprintf("%s-%05d", b.Sale(), b.count),
				fmt.Sprintf("user-%05d", b.count)))
		}
		for i, a := range b.admit(requests...) {
			require.NoError(b.t, a.Err)
			ids = append(ids, requests[i].ID)
		}
	}
	return ids
}

// claim takes up to n tickets for as long as the test runs.
func (b *box) claim(id string, n int) queue.Batch {
	b.t.Helper()
	batch, err := b.Claim(b.ctx, id, n, long)
	require.NoError(b.t, err)
	return batch
}

func (b *box) settle(batch queue.Batch, op queue.Op) {
	b.t.Helper()
	require.NoError(b.t, b.Settle(b.ctx, batch, all(batch, op)))
}

// all answers every ticket of a batch alike.
func all(batch queue.Batch, op queue.Op) []queue.Outcome {
	var outcomes []queue.Outcome
	for _, t := range batch.Tickets {
		outcomes = append(outcomes, queue.Outcome{ID: t.ID, Op: op, Reason: "because", Delay: time.Hour})
	}
	return outcomes
}

func ids(batch queue.Batch) []string {
	var list []string
	for _, t := range batch.Tickets {
		list = append(list, t.ID)
	}
	return list
}

// expire lets the lease of a batch run out now.
func (b *box) expire(batch string) {
	b.t.Helper()
	require.NoError(b.t, b.rdb.ZAddXX(b.ctx, b.key("lease"), redis.Z{Score: 1, Member: batch}).Err())
}

// setBack lets an entry be of a time before Redis' clock was set back by hours.
func (b *box) setBack(key, member string) {
	b.t.Helper()
	later := time.Now().Add(2 * time.Hour).UnixMilli()
	require.NoError(b.t, b.rdb.ZAddXX(b.ctx, b.key(key), redis.Z{Score: float64(later), Member: member}).Err())
}

// empty takes every ticket out of the line's lists.
func (b *box) empty() {
	b.t.Helper()
	for _, name := range []string{"wait", "suspect", "leased", "lease", "retry"} {
		require.NoError(b.t, b.rdb.Del(b.ctx, b.key(name)).Err())
	}
}

// lose deletes the line, as a Redis without its data has it.
func (b *box) lose() {
	b.t.Helper()
	keys, err := b.rdb.Keys(b.ctx, b.key("*")).Result()
	require.NoError(b.t, err)
	if len(keys) > 0 {
		require.NoError(b.t, b.rdb.Del(b.ctx, keys...).Err())
	}
}

// due lets the delay of a retried ticket be over now.
func (b *box) due(id string) {
	b.t.Helper()
	require.NoError(b.t, b.rdb.ZAddXX(b.ctx, b.key("retry"), redis.Z{Score: 1, Member: id}).Err())
}

func (b *box) view() queue.View {
	b.t.Helper()
	v, err := b.View(b.ctx)
	require.NoError(b.t, err)
	return v
}

func (b *box) snapshot() queue.Snapshot {
	b.t.Helper()
	s, err := b.Snapshot(b.ctx)
	require.NoError(b.t, err)
	return s
}

// ticket returns what the line remembers of an order.
func (b *box) ticket(id string) queue.Ticket {
	b.t.Helper()
	known, _, err := b.Lookup(b.ctx, []string{id})
	require.NoError(b.t, err)
	require.Contains(b.t, known, id)
	return known[id]
}

// held returns the orders a user holds, read together with a line that does not exist.
func (b *box) held(user string) []string {
	b.t.Helper()
	held, failed := b.lines.HeldBy(b.ctx, []string{"missing", b.Sale()}, user)
	require.Empty(b.t, failed)
	require.NotContains(b.t, held, "missing")
	return held[b.Sale()]
}

func (b *box) attempts() map[string]string {
	b.t.Helper()
	return b.rdb.HGetAll(b.ctx, b.key("attempts")).Val()
}

// list returns a list of the line, the next to be claimed first.
func (b *box) list(name string) []string {
	b.t.Helper()
	list, err := b.rdb.LRange(b.ctx, b.key(name), 0, -1).Result()
	require.NoError(b.t, err)
	slices.Reverse(list)
	return list
}

// dump returns everything that Redis holds.
func (b *box) dump() map[string]any {
	b.t.Helper()
	names, err := b.rdb.Keys(b.ctx, "*").Result()
	require.NoError(b.t, err)
	all := make(map[string]any, len(names))
	for _, name := range names {
		switch kind := b.rdb.Type(b.ctx, name).Val(); kind {
		case "hash":
			all[name] = b.rdb.HGetAll(b.ctx, name).Val()
		case "list":
			all[name] = b.rdb.LRange(b.ctx, name, 0, -1).Val()
		case "zset":
			all[name] = b.rdb.ZRangeWithScores(b.ctx, name, 0, -1).Val()
		case "string":
			all[name] = b.rdb.Get(b.ctx, name).Val()
		default:
			require.Fail(b.t, "unexpected type", "%s is a %s", name, kind)
		}
	}
	return all
}

// conserved holds the line against what must always be true of it: every unit
// is in stock, in flight or confirmed; every ticket is in exactly one place;
// who holds what agrees with the records, and nobody holds more than limit.
func (b *box) conserved(limit int) {
	b.t.Helper()
	s := b.snapshot()
	require.Empty(b.t, s.Recordless)
	require.Empty(b.t, s.ListedTwice)
	require.Zero(b.t, s.Unleased)
	require.Zero(b.t, s.EmptyLeases)
	units := s.Stock
	holders := map[string]map[string]string{}
	for id, record := range b.rdb.HGetAll(b.ctx, b.key("orders")).Val() {
		t, err := queue.ParseTicket(id, record)
		require.NoError(b.t, err)
		require.Positive(b.t, t.Position)
		inFlight, listed := s.InFlight[id]
		require.Equal(b.t, t.State == queue.Queued || t.Held, listed, "%s is %c", id, t.State)
		if listed {
			require.EqualValues(b.t, t.Units, inFlight)
		}
		if strings.ContainsRune("qcp", rune(t.State)) || t.Held {
			units += int64(t.Units)
			if holders[t.User] == nil {
				holders[t.User] = map[string]string{}
			}
			holders[t.User][id] = fmt.Sprintf("%d:%d", t.Slot, t.Units)
		}
	}
	require.Equal(b.t, s.Total, units, "units are lost or doubled")
	require.Equal(b.t, holders, b.holders(limit))
}

// holders returns user → order → "slot:units".
func (b *box) holders(limit int) map[string]map[string]string {
	b.t.Helper()
	all := map[string]map[string]string{}
	for user, text := range b.rdb.HGetAll(b.ctx, b.key("holders")).Val() {
		all[user] = map[string]string{}
		slots, units := map[string]bool{}, 0
		for one := range strings.SplitSeq(text, ",") {
			f := strings.Split(one, ":")
			require.Len(b.t, f, 3, text)
			require.False(b.t, slots[f[1]], "%s holds slot %s twice: %s", user, f[1], text)
			slots[f[1]] = true
			n, err := strconv.Atoi(f[2])
			require.NoError(b.t, err)
			units += n
			all[user][f[0]] = f[1] + ":" + f[2]
		}
		require.LessOrEqual(b.t, units, limit, "%s holds %s", user, text)
	}
	return all
}

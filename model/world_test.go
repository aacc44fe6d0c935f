package model_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/model"
	"sluice/order"
	"sluice/order/restore"
	"sluice/queue"
	"sluice/store"
)

// world is a real Redis and a real database with the parts of the product that the model describes.
type world struct {
	t          *testing.T
	ctx        context.Context
	db         *store.DB
	rdb        *redis.Client // the product's client
	raw        *redis.Client // the test's client
	clock      *testkit.Clock
	saleStore  *inventory.SaleStore
	reconciler *reconcile.Reconciler
	line       *queue.Line
	fulfiller  *order.Fulfiller
	canceller  *order.Canceller
	sale       string
	epoch      int // the line's epoch when a play begins, minus the model's
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := testkit.Redis(t, "--enable-debug-command", "local", "--appendfsync", "no")
	db := tables.Open(t, tables.New(t, store.SQLite))
	w := &world{t: t, ctx: t.Context(), db: db, raw: server.Client(), rdb: testkit.ProductClient(t, server.Addr()),
		clock: testkit.NewClock(time.Now())}
	w.rdb.AddHook(&calls{names: map[string]string{}})
	w.saleStore = inventory.NewSaleStore(db, w.clock.Now)
	w.forget()
	return w
}

// forget replaces every part by one of a process that has just started.
func (w *world) forget() {
	log := slog.New(slog.DiscardHandler)
	lines := queue.NewLines(w.rdb, queue.DefaultPrefix)
	w.line = lines.Of(w.sale)
	channels, onCommit := []string{"stream"}, func() {}
	w.reconciler = reconcile.New(w.db, lines, 100, log, w.clock.Now)
	w.reconciler.RestoreBy(restore.NewRestorer(w.db, channels, w.clock.Now, "model").Restore)
	cache := inventory.NewSaleCache(w.saleStore, lines, log, w.clock.Now)
	w.fulfiller = order.NewFulfiller(order.FulfillerParts{
		DB: w.db, Sales: w.saleStore, Cache: cache, Deadline: 0, Channels: channels, OnCommit: onCommit,
		Log: log, Now: w.clock.Now,
	})
	w.canceller = order.NewCanceller(order.CancellerParts{
		DB: w.db, Lines: lines, Reconciler: w.reconciler, Channels: channels, OnCommit: onCommit,
		Log: log, Now: w.clock.Now,
	})
}

// open creates a sale of one unit and loads its line.
func (w *world) open(sale string) {
	w.t.Helper()
	w.sale = sale
	w.forget()
	now := time.Now() // Redis' clock decides
	_, err := w.saleStore.Create(w.ctx, inventory.NewSale{ID: sale, Title: "Phone X", SKU: "PHONE-X", Stock: 1,
		PriceCents: 9900, Currency: "CNY", PerUserLimit: 1, StartsAt: now.Add(-time.Minute), EndsAt: now.Add(
			24 * time.Hour),
		Open: true}, "test")
	require.NoError(w.t, err)
	require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
	w.epoch = 0
	w.epoch = w.state().LedgerEpoch - 1
}

func (w *world) id(ticket int) string { return fmt.Sprintf("%s-order-%d", w.sale, ticket) }

func user(ticket int) string { return fmt.Sprintf("user-%d", ticket) }

func (w *world) key(name string) string { return "sluice:{" + w.sale + "/0}:" + name }

// state returns the state of both stores in terms of the model.
func (w *world) state() model.State {
	w.t.Helper()
	meta := w.raw.HGetAll(w.ctx, w.key("meta")).Val()
	var s model.State
	s.Verified = len(meta) > 0 && meta["run"] == w.identity()
	_, s.Gated = meta["gate"]
	if meta["epoch"] != "" {
		s.Epoch = number(w.t, meta["epoch"]) - w.epoch
	}
	s.Stock, _ = w.raw.Get(w.ctx, w.key("stock")).Int()
	for t := range s.Record {
		record := w.raw.HGet(w.ctx, w.key("orders"), w.id(t)).Val()
		s.Record[t] = map[string]int{"": model.None, "q": model.Queued,
			"c": model.Confirmed}[record[:min(1, len(record))]]
		if record != "" && s.Record[t] == model.None {
			s.Record[t] = model.Ended
		}
		s.Place[t] = w.place(t)
		s.Row[t] = w.row(t)
	}
	sale, stock, err := w.saleStore.Get(w.ctx, w.sale)
	require.NoError(w.t, err)
	s.LedgerEpoch, s.Available = int(sale.Epoch)-w.epoch, int(stock.Available)
	return s
}

// seen reduces a state of the model to what the stores show. A record does not show who ended the ticket, and lists do
// not show who may still cancel.
func seen(s model.State) model.State {
	for t := range s.Record {
		if s.Record[t] == model.Cancelled || s.Record[t] == model.Held {
			s.Record[t] = model.Ended
		}
		if s.Place[t] == model.Suspect {
			s.Place[t] = model.Waiting
		}
	}
	return s
}

func number(t *testing.T, text string) int {
	t.Helper()
	var n int
	_, err := fmt.Sscan(text, &n)
	require.NoError(t, err)
	return n
}

// identity returns the server's identity, which changes at each start and promotion.
func (w *world) identity() string {
	w.t.Helper()
	for line := range strings.Lines(w.raw.Info(w.ctx, "replication").Val()) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "master_replid:"); ok {
			return id
		}
	}
	w.t.Fatal("redis tells no replication id")
	return ""
}

// place returns the list of the line that has a ticket.
func (w *world) place(ticket int) int {
	w.t.Helper()
	id := w.id(ticket)
	listed := slices.Concat(w.raw.LRange(w.ctx, w.key("wait"), 0, -1).Val(),
		w.raw.LRange(w.ctx, w.key("suspect"), 0, -1).Val(), w.raw.ZRange(w.ctx, w.key("retry"), 0, -1).Val())
	leased := w.batchOf(ticket) != ""
	switch {
	case slices.Contains(listed, id) && leased:
		w.t.Fatalf("%s is listed and leased", id)
	case leased:
		return model.Leased
	case slices.Contains(listed, id):
		return model.Waiting
	}
	return model.Out
}

// batchOf returns the leased batch with a ticket, or "".
func (w *world) batchOf(ticket int) string {
	w.t.Helper()
	for batch, ids := range w.raw.HGetAll(w.ctx, w.key("leased")).Val() {
		if slices.Contains(strings.Split(ids, ","), w.id(ticket)) {
			return batch
		}
	}
	return ""
}

// row returns the state of an order in the database.
func (w *world) row(ticket int) int {
	w.t.Helper()
	var rows []order.Row
	require.NoError(w.t, w.db.Read.WithContext(w.ctx).Where("id = ?", w.id(ticket)).Find(&rows).Error)
	if len(rows) == 0 {
		return model.None
	}
	switch row := rows[0]; {
	case row.Status == order.Confirmed:
		return model.Live
	case row.Status == order.Failed:
		return model.Failed
	case row.Status == order.Cancelled && row.Released == 0:
		return model.Returned
	}
	return model.Released
}

// dump returns all keys of the line, as a replica would have them.
func (w *world) dump() map[string]string {
	w.t.Helper()
	keys, err := w.raw.Keys(w.ctx, w.key("*")).Result()
	require.NoError(w.t, err)
	copied := map[string]string{}
	for _, key := range keys {
		copied[key] = w.raw.Dump(w.ctx, key).Val()
	}
	return copied
}

// takeOver makes a server with another identity and the copied line the master. It has every script already, like a
// server that was master before.
func (w *world) takeOver(copied map[string]string) {
	w.t.Helper()
	require.NoError(w.t, w.raw.Do(w.ctx, "DEBUG", "CHANGE-REPL-ID").Err())
	for key := range w.dump() {
		require.NoError(w.t, w.raw.Del(w.ctx, key).Err())
	}
	for key, value := range copied {
		require.NoError(w.t, w.raw.Restore(w.ctx, key, 0, value).Err())
	}
}

// lose removes every trace of a ticket from the line.
func (w *world) lose(ticket int) {
	w.t.Helper()
	id := w.id(ticket)
	if batch := w.batchOf(ticket); batch != "" {
		require.NoError(w.t, w.raw.HDel(w.ctx, w.key("leased"), batch).Err())
		require.NoError(w.t, w.raw.ZRem(w.ctx, w.key("lease"), batch).Err())
	}
	w.unlist(ticket)
	require.NoError(w.t, w.raw.HDel(w.ctx, w.key("orders"), id).Err())
	require.NoError(w.t, w.raw.HDel(w.ctx, w.key("holders"), user(ticket)).Err())
	for _, list := range []string{"done", "dead", "released"} {
		require.NoError(w.t, w.raw.LRem(w.ctx, w.key(list), 0, id).Err())
	}
}

// unlist removes a ticket from the lists of waiting tickets.
func (w *world) unlist(ticket int) {
	w.t.Helper()
	id := w.id(ticket)
	require.NoError(w.t, w.raw.LRem(w.ctx, w.key("wait"), 0, id).Err())
	require.NoError(w.t, w.raw.LRem(w.ctx, w.key("suspect"), 0, id).Err())
	require.NoError(w.t, w.raw.ZRem(w.ctx, w.key("retry"), id).Err())
}

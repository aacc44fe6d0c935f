package inventory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

func TestAuditOfAQuietSale(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.fill()
		require.Equal(w.t, inventory.SaleAudit{Sale: theSale, Total: 100, Available: 93, Live: 7, LineStock: 79,
			InFlight: 12, Epoch: 1, Admitted: 16,
			Found: 16, LinePresent: true, Compared: true, Clean: true, Verdict: inventory.VerdictClean},
			w.audit(), "two units are on their way back into the line")
		w.keep()
		require.EqualValues(w.t, 81, w.clean().LineStock)

		w.clock.Advance(time.Second)
		w.create(newSale("another", 5, 1))
		w.keep()
		result, err := w.auditor.Run(w.ctx, "")
		require.NoError(w.t, err)
		require.True(w.t, *result.Clean)
		require.Len(w.t, result.Sales, 2)
		require.Equal(w.t, "another", result.Sales[1].Sale, "oldest first")
		_, err = w.auditor.Run(w.ctx, "nowhere")
		require.ErrorIs(w.t, err, inventory.ErrNoSale)

		text, err := json.Marshal(result)
		require.NoError(w.t, err)
		require.True(w.t, strings.HasPrefix(string(text),
			`{"verdict":"clean","clean":true,"sales":[{"sale":"sale","total":100,"available":`), string(text))
		require.NotContains(w.t, string(text), "problems")
	})
	t.Run("nothing to audit", func(t *testing.T) {
		w := onSQLite(t)
		result, err := w.auditor.Run(w.ctx, "")
		require.NoError(t, err)
		text, err := json.Marshal(result)
		require.NoError(t, err)
		require.JSONEq(t, `{"verdict":"clean","clean":true,"sales":[]}`, string(text))
	})
}

func TestAuditFindsCorruption(t *testing.T) {
	corruptions := map[string]struct {
		corrupt func(w *world, c shoppers)
		want    string
	}{
		"a unit lost in Redis": {func(w *world, _ shoppers) { w.rdb.Decr(w.ctx, key("stock")) },
			"ledger and line differ by 1 units"},
		"a unit made in Redis": {func(w *world, _ shoppers) { w.rdb.Incr(w.ctx, key("stock")) },
			"ledger and line differ by -1 units"},
		"a record deleted": {func(w *world, c shoppers) { w.rdb.HDel(w.ctx, key("orders"), c.waiting[0].ID) },
			"1 listed tickets have no record, order-00013 first"},
		"a lease removed": {func(w *world, c shoppers) { w.rdb.ZRem(w.ctx, key("lease"), c.batch.ID) },
			"1 batches have no lease"},
		"a batch removed": {func(w *world, c shoppers) { w.rdb.HDel(w.ctx, key("leased"), c.batch.ID) },
			"ledger and line differ by 4 units"},
		"a ticket unlisted": {func(w *world, c shoppers) { w.rdb.LRem(w.ctx, key("wait"), 0, c.waiting[0].ID) },
			"ledger and line differ by 1 units"},
		"a ticket twice": {func(w *world, c shoppers) { w.rdb.LPush(w.ctx, key("wait"), c.waiting[1].ID) },
			"1 tickets are listed twice"},
		"leased and waiting": {func(w *world, c shoppers) { w.rdb.LPush(w.ctx, key("wait"), c.leased[1].ID) },
			"1 tickets are listed twice"},
		"a retry lost": {func(w *world, c shoppers) { w.rdb.ZRem(w.ctx, key("retry"), c.retrying[0].ID) },
			"ledger and line differ by 1 units"},
		"ledger lowered": {func(w *world, _ shoppers) { w.exec("UPDATE stock SET available = available - 1") },
			"ledger: total 100 is not available 92 + live orders 7"},
		"total changed": {func(w *world, _ shoppers) { w.exec("UPDATE stock SET total = total + 1") },
			"ledger: total 101 is not available 93 + live orders 7"},
		"outbox row deleted": {func(w *world, c shoppers) {
			w.exec("DELETE FROM outbox WHERE order_id = ?",
				c.live[0].ID)
		}, "1 orders have no outbox row"},
		"order deleted": {func(w *world, c shoppers) { w.exec("DELETE FROM orders WHERE id = ?", c.live[0].ID) },
			"ledger: total 100 is not available 93 + live orders 6"},
		"beyond the limit": {func(w *world, c shoppers) {
			var row order.Row
			require.NoError(w.t, w.db.Read.Take(&row, "id = ?", c.live[4].ID).Error)
			slot := 2
			row.ID, row.Slot = uuid.NewString(), &slot
			require.NoError(w.t, w.db.Write.Create(&row).Error)
		}, "1 users hold more than 3 units"},
		"the line gone": {func(w *world, _ shoppers) { w.rdb.FlushAll(w.ctx) }, "the line is missing from Redis"},
	}
	for name, tt := range corruptions {
		t.Run(name, func(t *testing.T) {
			w := onSQLite(t)
			c := w.fill()
			w.clean()
			tt.corrupt(w, c)
			w.dirty(tt.want)
		})
	}
}

func TestTheBalanceIsOfUnitsAlone(t *testing.T) {
	w := onSQLite(t)
	c := w.fill()
	w.exec("DELETE FROM outbox WHERE order_id = ?", c.live[0].ID)
	w.dirty("1 orders have no outbox row")
	balance, err := w.auditor.Balance(w.ctx, theSale)
	require.NoError(t, err)
	require.True(t, balance.Clean)
	w.rdb.Decr(w.ctx, key("stock"))
	balance, err = w.auditor.Balance(w.ctx, theSale)
	require.NoError(t, err)
	require.EqualValues(t, 1, balance.Difference)
	require.False(t, balance.Clean)
	_, err = w.auditor.Balance(w.ctx, "no-such-sale")
	require.Error(t, err)
}

// dirty audits and requires the problem to be named.
func (w *world) dirty(want string) {
	w.t.Helper()
	r := w.audit()
	require.False(w.t, r.Clean)
	require.Contains(w.t, strings.Join(r.Problems, "; "), want)
	text, err := json.Marshal(inventory.Audit{Sales: []inventory.SaleAudit{r}})
	require.NoError(w.t, err)
	require.Contains(w.t, string(text), `"problems":["`)
}

func TestAuditFindsCorruptionOnEveryDatabase(t *testing.T) {
	eachDatabase(t, func(w *world) {
		c := w.fill()
		w.clean()
		w.exec("UPDATE stock SET available = available - 1")
		w.dirty("ledger: total 100 is not available 92 + live orders 7")
		w.exec("UPDATE stock SET available = available + 1")
		w.exec("DELETE FROM outbox WHERE order_id = ?", c.live[0].ID)
		w.dirty("1 orders have no outbox row")
		w.exec("UPDATE sales SET per_user_limit = 2")
		w.dirty("1 users hold more than 2 units")
		w.rdb.Decr(w.ctx, key("stock"))
		w.dirty("ledger and line differ by 1 units")
	})
}

// storm keeps a sale as busy as this machine can while it is audited.
type storm struct {
	*world
	epoch  int64
	stop   atomic.Bool
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
	seq    atomic.Int64
	admits chan queue.Ticket // some of the admitted, to be cancelled
	ended  atomic.Int64
	closed atomic.Int64
}

func (s *storm) every(step func() error) {
	s.wg.Go(func() {
		for !s.stop.Load() {
			if err := step(); err != nil {
				s.mu.Lock()
				s.errs = append(s.errs, err)
				s.mu.Unlock()
				return
			}
		}
	})
}

func (s *storm) shop() error {
	n := s.seq.Add(1)
	r := queue.Request{ID: fmt.Sprintf("storm-%d", n), User: fmt.Sprintf("user-%d", n%3000), Units: int(n%2) + 1,
		Fingerprint: "print"}
	admissions, err := s.line.Admit(s.ctx, s.epoch, 100, []queue.Request{r})
	if err != nil {
		return err
	}
	if admissions[0].Err == nil {
		select {
		case s.admits <- admissions[0].Ticket:
		default:
		}
	}
	return nil
}

func (s *storm) drain() error {
	b, err := s.line.Claim(s.ctx, uuid.NewString(), 20, long)
	if err != nil || len(b.Tickets) == 0 {
		return err
	}
	outcomes, err := s.fulfiller.Handle(s.ctx, b)
	if err != nil {
		return err
	}
	s.ended.Add(int64(len(outcomes)))
	return s.line.Settle(s.ctx, b, outcomes)
}

func (s *storm) quit() error {
	select {
	case t := <-s.admits:
		err := s.canceller.Cancel(s.ctx, theSale, t.ID, t.User)
		if err == nil {
			s.closed.Add(1)
		}
		if errors.Is(err, order.ErrBusy) || errors.Is(err, order.ErrNotCancellable) {
			return nil
		}
		return err
	case <-time.After(time.Millisecond):
		return nil
	}
}

func (s *storm) restock() error {
	delta := 5 + s.seq.Load()%3
	if delta%2 == 0 {
		delta = -2
	}
	_, err := s.saleStore.AdjustStock(s.ctx, inventory.Adjustment{Sale: theSale, Delta: delta, Actor: "test",
		Reason: "storm"})
	if errors.Is(err, inventory.ErrShort) {
		err = nil
	}
	if err != nil {
		return err
	}
	return s.reconciler.SyncLine(s.ctx, theSale)
}

func TestAuditRaisesNoFalseAlarm(t *testing.T) {
	audits := map[string]int{store.SQLite: 15, store.MySQL: 15, store.Postgres: 40}
	eachDatabase(t, func(w *world) {
		w.open(400, 3)
		s := &storm{world: w, epoch: 1, admits: make(chan queue.Ticket, 16)}
		for range 8 {
			s.every(s.shop)
		}
		s.every(s.drain)
		s.every(s.drain)
		s.every(s.quit)
		s.every(s.restock)
		var alarms []inventory.SaleAudit
		// A slow machine may audit several times before the first order of a kind has ended.
		happened := func() bool { return s.ended.Load() > 0 && s.closed.Load() > 0 }
		for start, n := time.Now(), 0; n < audits[w.db.Driver] || !happened() && time.Since(start) < time.Minute; n++ {
			result, err := w.auditor.Run(w.ctx, theSale)
			if err != nil || result.Verdict != inventory.VerdictClean {
				alarms = append(alarms, result.Sales...)
				s.errs = append(s.errs, err)
				break
			}
		}
		s.stop.Store(true)
		s.wg.Wait()
		require.NoError(w.t, errors.Join(s.errs...))
		require.Empty(w.t, alarms)
		require.Positive(w.t, s.ended.Load())
		require.Positive(w.t, s.closed.Load())
		w.keep()
		w.work(100_000)
		w.clean()
		w.t.Logf("%d requests, %d ended, %d cancelled", s.seq.Load(), s.ended.Load(), s.closed.Load())
	})
}

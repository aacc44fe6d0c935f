package audit_test

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

	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

func TestAuditOfAQuietSale(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Fill()
		require.Equal(w.T, audit.Sale{Sale: orders.Sale, Total: 100, Available: 93, Live: 7, LineStock: 79,
			InFlight: 12, Epoch: 1, Admitted: 16,
			Found: 16, LinePresent: true, Compared: true, Clean: true, Verdict: audit.Clean},
			w.Audit(), "two units are on their way back into the line")
		w.CatchUp()
		require.EqualValues(w.T, 81, w.Clean().LineStock)

		w.Clock.Advance(time.Second)
		w.Create(orders.NewSale("another", 5, 1))
		w.CatchUp()
		result, err := w.Auditor.Run(w.Ctx, "")
		require.NoError(w.T, err)
		require.True(w.T, *result.Clean)
		require.Len(w.T, result.Sales, 2)
		require.Equal(w.T, "another", result.Sales[1].Sale, "oldest first")
		_, err = w.Auditor.Run(w.Ctx, "nowhere")
		require.ErrorIs(w.T, err, inventory.ErrNoSale)

		text, err := json.Marshal(result)
		require.NoError(w.T, err)
		require.True(w.T, strings.HasPrefix(string(text),
			`{"verdict":"clean","clean":true,"sales":[{"sale":"sale","total":100,"available":`), string(text))
		require.NotContains(w.T, string(text), "problems")
	})
	t.Run("nothing to audit", func(t *testing.T) {
		w := orders.EmptyOnSQLite(t)
		result, err := w.Auditor.Run(w.Ctx, "")
		require.NoError(t, err)
		text, err := json.Marshal(result)
		require.NoError(t, err)
		require.JSONEq(t, `{"verdict":"clean","clean":true,"sales":[]}`, string(text))
	})
}

func TestAuditFindsCorruption(t *testing.T) {
	corruptions := map[string]struct {
		corrupt func(w *orders.World, c orders.Places)
		want    string
	}{
		"a unit lost in Redis": {func(w *orders.World, _ orders.Places) {
			w.Redis.Decr(w.Ctx, orders.Key("stock"))
		},
			"ledger and line differ by 1 units"},
		"a unit made in Redis": {func(w *orders.World, _ orders.Places) {
			w.Redis.Incr(w.Ctx, orders.Key("stock"))
		},
			"ledger and line differ by -1 units"},
		"a record deleted": {func(w *orders.World, c orders.Places) {
			w.Redis.HDel(w.Ctx, orders.Key("orders"), c.Waiting[0].ID)
		},
			"1 listed tickets have no record, order-0013 first"},
		"a lease removed": {func(w *orders.World, c orders.Places) {
			w.Redis.ZRem(w.Ctx, orders.Key("lease"), c.Batch.ID)
		},
			"1 batches have no lease"},
		"a batch removed": {func(w *orders.World, c orders.Places) {
			w.Redis.HDel(w.Ctx, orders.Key("leased"), c.Batch.ID)
		},
			"ledger and line differ by 4 units"},
		"a ticket unlisted": {func(w *orders.World, c orders.Places) {
			w.Redis.LRem(w.Ctx, orders.Key("wait"), 0, c.Waiting[0].ID)
		},
			"ledger and line differ by 1 units"},
		"a ticket twice": {func(w *orders.World, c orders.Places) {
			w.Redis.LPush(w.Ctx, orders.Key("wait"), c.Waiting[1].ID)
		},
			"1 tickets are listed twice"},
		"leased and waiting": {func(w *orders.World, c orders.Places) {
			w.Redis.LPush(w.Ctx, orders.Key("wait"), c.Leased[1].ID)
		},
			"1 tickets are listed twice"},
		"a retry lost": {func(w *orders.World, c orders.Places) {
			w.Redis.ZRem(w.Ctx, orders.Key("retry"), c.Retrying[0].ID)
		},
			"ledger and line differ by 1 units"},
		"ledger lowered": {func(w *orders.World, _ orders.Places) {
			w.Exec("UPDATE stock SET available = available - 1")
		},
			"ledger: total 100 is not available 92 + live orders 7"},
		"total changed": {func(w *orders.World, _ orders.Places) {
			w.Exec("UPDATE stock SET total = total + 1")
		},
			"ledger: total 101 is not available 93 + live orders 7"},
		"outbox row deleted": {func(w *orders.World, c orders.Places) {
			w.Exec("DELETE FROM outbox WHERE order_id = ?",
				c.Live[0].ID)
		}, "1 orders have no outbox row"},
		"order deleted": {func(w *orders.World, c orders.Places) {
			w.Exec("DELETE FROM orders WHERE id = ?", c.Live[0].ID)
		},
			"ledger: total 100 is not available 93 + live orders 6"},
		"beyond the limit": {func(w *orders.World, c orders.Places) {
			var row order.Row
			require.NoError(w.T, w.DB.Read.Take(&row, "id = ?", c.Live[4].ID).Error)
			slot := 2
			row.ID, row.Slot = uuid.NewString(), &slot
			require.NoError(w.T, w.DB.Write.Create(&row).Error)
		}, "1 users hold more than 3 units"},
		"the line gone": {func(w *orders.World, _ orders.Places) {
			w.Redis.FlushAll(w.Ctx)
		}, "the line is missing from Redis"},
	}
	for name, tt := range corruptions {
		t.Run(name, func(t *testing.T) {
			w := orders.EmptyOnSQLite(t)
			c := w.Fill()
			w.Clean()
			tt.corrupt(w, c)
			dirty(w, tt.want)
		})
	}
}

func TestTheBalanceIsOfUnitsAlone(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	c := w.Fill()
	w.Exec("DELETE FROM outbox WHERE order_id = ?", c.Live[0].ID)
	dirty(w, "1 orders have no outbox row")
	balance, err := w.Auditor.Balance(w.Ctx, orders.Sale)
	require.NoError(t, err)
	require.True(t, balance.Clean)
	w.Redis.Decr(w.Ctx, orders.Key("stock"))
	balance, err = w.Auditor.Balance(w.Ctx, orders.Sale)
	require.NoError(t, err)
	require.EqualValues(t, 1, balance.Difference)
	require.False(t, balance.Clean)
	_, err = w.Auditor.Balance(w.Ctx, "no-such-sale")
	require.Error(t, err)
}

// dirty audits and requires the problem to be named.
func dirty(w *orders.World, want string) {
	w.T.Helper()
	r := w.Audit()
	require.False(w.T, r.Clean)
	require.Contains(w.T, strings.Join(r.Problems, "; "), want)
	text, err := json.Marshal(audit.Report{Sales: []audit.Sale{r}})
	require.NoError(w.T, err)
	require.Contains(w.T, string(text), `"problems":["`)
}

func TestAuditFindsCorruptionOnEveryDatabase(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		c := w.Fill()
		w.Clean()
		w.Exec("UPDATE stock SET available = available - 1")
		dirty(w, "ledger: total 100 is not available 92 + live orders 7")
		w.Exec("UPDATE stock SET available = available + 1")
		w.Exec("DELETE FROM outbox WHERE order_id = ?", c.Live[0].ID)
		dirty(w, "1 orders have no outbox row")
		w.Exec("UPDATE sales SET per_user_limit = 2")
		dirty(w, "1 users hold more than 2 units")
		w.Redis.Decr(w.Ctx, orders.Key("stock"))
		dirty(w, "ledger and line differ by 1 units")
	})
}

// storm keeps a sale as busy as this machine can while it is audited.
type storm struct {
	*orders.World
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
	admissions, err := s.Line.Admit(s.Ctx, s.epoch, 100, []queue.Request{r})
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
	b, err := s.Line.Claim(s.Ctx, uuid.NewString(), 20, orders.Lease)
	if err != nil || len(b.Tickets) == 0 {
		return err
	}
	outcomes, err := s.Fulfiller.Handle(s.Ctx, b)
	if err != nil {
		return err
	}
	s.ended.Add(int64(len(outcomes)))
	return s.Line.Settle(s.Ctx, b, outcomes)
}

func (s *storm) quit() error {
	select {
	case t := <-s.admits:
		err := s.Canceller.Cancel(s.Ctx, orders.Sale, t.ID, t.User)
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
	_, err := s.Sales.AdjustStock(s.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: delta, Actor: "test",
		Reason: "storm"})
	if errors.Is(err, inventory.ErrShort) {
		err = nil
	}
	if err != nil {
		return err
	}
	return s.Reconciler.SyncLine(s.Ctx, orders.Sale)
}

func TestAuditRaisesNoFalseAlarm(t *testing.T) {
	audits := map[string]int{store.SQLite: 15, store.MySQL: 15, store.Postgres: 40}
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(400, 3)
		s := &storm{World: w, epoch: 1, admits: make(chan queue.Ticket, 16)}
		for range 8 {
			s.every(s.shop)
		}
		s.every(s.drain)
		s.every(s.drain)
		s.every(s.quit)
		s.every(s.restock)
		var alarms []audit.Sale
		// A slow machine may audit several times before the first order of a kind has ended.
		happened := func() bool { return s.ended.Load() > 0 && s.closed.Load() > 0 }
		for start, n := time.Now(), 0; n < audits[w.DB.Driver] || !happened() && time.Since(start) < time.Minute; n++ {
			result, err := w.Auditor.Run(w.Ctx, orders.Sale)
			if err != nil || result.Verdict != audit.Clean {
				alarms = append(alarms, result.Sales...)
				s.errs = append(s.errs, err)
				break
			}
		}
		s.stop.Store(true)
		s.wg.Wait()
		require.NoError(w.T, errors.Join(s.errs...))
		require.Empty(w.T, alarms)
		require.Positive(w.T, s.ended.Load())
		require.Positive(w.T, s.closed.Load())
		w.CatchUp()
		w.WorkOff(100_000)
		w.Clean()
		w.T.Logf("%d requests, %d ended, %d cancelled", s.seq.Load(), s.ended.Load(), s.closed.Load())
	})
}

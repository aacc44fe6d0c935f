package inventory_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/restore"
	"sluice/queue"
)

// ledger is what a database has of a sale, to come back to it.
type ledger struct {
	orders, outbox, stock []map[string]any
}

func (w *world) copyLedger() (l ledger) {
	w.t.Helper()
	for table, to := range map[string]*[]map[string]any{"orders": &l.orders, "outbox": &l.outbox, "stock": &l.stock} {
		require.NoError(w.t, w.db.Write.Table(table).Where("sale_id = ?", theSale).Find(to).Error)
	}
	return l
}

// lose brings the database back as it was, without the commits since: an asynchronous failover, or a restored dump.
func (w *world) lose(l ledger) {
	w.t.Helper()
	for _, table := range []string{"outbox", "orders"} {
		w.exec("DELETE FROM "+table+" WHERE sale_id = ?", theSale)
	}
	for table, rows := range map[string][]map[string]any{"orders": l.orders, "outbox": l.outbox} {
		for _, row := range rows {
			require.NoError(w.t, w.db.Write.Table(table).Create(row).Error)
		}
	}
	s := l.stock[0]
	w.exec("UPDATE stock SET total = ?, available = ?, changes = ? WHERE sale_id = ?", s["total"], s["available"],
		s["changes"], theSale)
}

func (w *world) restorer() {
	w.reconciler.RestoreBy(restore.NewRestorer(w.db, []string{"stream"}, time.Now, "test").Restore)
}

func (w *world) statuses() map[string]string {
	w.t.Helper()
	var rows []struct{ ID, Status string }
	require.NoError(w.t, w.db.Write.Table("orders").Where("sale_id = ?", theSale).Find(&rows).Error)
	found := map[string]string{}
	for _, r := range rows {
		found[r.ID] = r.Status
	}
	return found
}

// Orders that were told confirmed come back first, in their place; what was cancelled stays cancelled (case S10).
func TestADatabaseThatLostCommitsGetsThemBack(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(8, 1)
		early := w.admitMany(3)
		w.work(3)
		before := w.copyLedger()
		late := w.admitMany(4)
		w.work(4)
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, early[0].ID, early[0].User))
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, late[0].ID, late[0].User))
		waiting := w.admit("waiter", 1)
		w.lose(before)

		// A worker that claims now makes nothing: the ledger lacks what the line knows.
		b := w.claim(1)
		_, err := w.fulfiller.Handle(w.ctx, b)
		require.ErrorIs(w.t, err, inventory.ErrBehind)
		epoch := w.view().Epoch
		w.keep()
		require.Equal(w.t, epoch+1, w.view().Epoch, "noticed in the first round")
		got := w.statuses()
		for _, t := range append(early[1:], late[1:]...) {
			require.Equal(w.t, order.Confirmed, got[t.ID])
		}
		require.Equal(w.t, order.Cancelled, got[early[0].ID])
		require.Equal(w.t, order.Cancelled, got[late[0].ID])
		r := w.clean()
		require.EqualValues(w.t, 5, r.Live)
		require.EqualValues(w.t, 1, r.InFlight)
		require.EqualValues(w.t, 2, r.LineStock)
		require.EqualValues(w.t, 5, r.Restored)
		require.Zero(w.t, r.Refused+r.Lost)
		w.work(1)
		require.Equal(w.t, order.Confirmed, w.statuses()[waiting.ID])
		w.keep()
		require.Equal(w.t, epoch+1, w.view().Epoch, "once is enough")
		w.clean()
	})
}

// Also after its sale is over a line that knows more than the database is not dropped before it has been put back: a
// dump is restored when the trouble is over.
func TestAFinishedLineGivesBackWhatTheDatabaseLost(t *testing.T) {
	w := onSQLite(t)
	w.restorer()
	w.open(3, 1)
	before := w.copyLedger()
	told := w.admitMany(3)
	w.work(3)
	w.lose(before)
	w.exec("UPDATE sales SET ends_at = ? WHERE id = ?", time.Now().Add(-inventory.LineKept-time.Minute).UnixMilli(),
		theSale)
	w.keep()
	got := w.statuses()
	for _, t := range told {
		require.Equal(w.t, order.Confirmed, got[t.ID])
	}
	w.keep()
	require.False(t, w.view().Exists, "then it goes")
	w.clean()
}

// Nobody reads "sold out" because the database has lost units that were added: a worker finds out that they are lost,
// whether something was sold since or not.
func TestUnitsThatTheDatabaseLostAreNotSoldOut(t *testing.T) {
	for name, soldSince := range map[string]int{"sold since": 1, "not sold since": 0} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(w *world) { w.loseAddedUnits(soldSince) })
		})
	}
}

func (w *world) loseAddedUnits(soldSince int) {
	w.restorer()
	w.open(2, 1)
	w.admitMany(2)
	w.work(2)
	before := w.copyLedger()
	sale, _ := w.get()
	_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 4, Actor: "ann",
		Reason: "found a box"})
	require.NoError(w.t, err)
	w.keep()
	late := w.admitMany(4)
	w.work(soldSince)
	w.lose(before)
	w.exec("UPDATE sales SET version = ? WHERE id = ?", sale.Version, theSale)

	b := w.claim(4)
	_, err = w.fulfiller.Handle(w.ctx, b)
	require.ErrorIs(w.t, err, inventory.ErrBehind)
	w.keep()
	w.work(4)
	got := w.statuses()
	for _, t := range late {
		require.Equal(w.t, order.Confirmed, got[t.ID])
	}
	w.clean()
}

// Nobody reads that they hold another order because the database has lost its end.
func TestAnEndThatTheDatabaseLostTakesNobodysPlace(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(3, 1)
		first := w.admit("ann", 1)
		w.work(1)
		before := w.copyLedger()
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, first.ID, "ann"))
		second := w.admit("ann", 1)
		w.lose(before)

		b := w.claim(1)
		_, err := w.fulfiller.Handle(w.ctx, b)
		require.ErrorIs(w.t, err, inventory.ErrBehind)
		w.keep()
		w.work(1)
		got := w.statuses()
		require.Equal(w.t, []string{order.Cancelled, order.Confirmed}, []string{got[first.ID], got[second.ID]})
		w.clean()
	})
}

// An order that a rebuild has shown as confirmed while its ticket is still listed, and a dead letter, are known to the
// line too.
func TestListedOrdersAndDeadLettersAreGivenBack(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(4, 1)
		before := w.copyLedger()
		listed, dead := w.admit("ann", 1), w.admit("bob", 1)
		b := w.claim(1)
		_, err := w.fulfiller.Handle(w.ctx, b)
		require.NoError(w.t, err)
		b = w.claim(1)
		require.Equal(w.t, dead.ID, b.Tickets[0].ID)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "given up")
		require.NoError(w.t, err)
		require.NoError(w.t, w.line.Settle(w.ctx, b, outcomes))
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		w.lose(before)
		w.keep()
		got := w.statuses()
		require.Equal(w.t, []string{order.Confirmed, order.Failed}, []string{got[listed.ID], got[dead.ID]})
		letters, err := w.line.DeadLetters(w.ctx, 0, 10)
		require.NoError(w.t, err)
		require.Len(w.t, letters, 1)
		w.work(1)
		require.EqualValues(w.t, 1, w.clean().Live)
	})
}

// A failed order whose row the database refuses for its data is recorded with less of it, and holds up no other.
func TestARowThatIsRefusedHoldsUpNoRestoring(t *testing.T) {
	w := onSQLite(t)
	w.restorer()
	w.open(4, 1)
	before := w.copyLedger()
	w.exec("CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.user_id = 'bob' BEGIN SELECT RAISE(ABORT, " +
		"'no'); END")
	ann, bob := w.admit("ann", 1), w.admit("bob", 1)
	w.work(1)
	b := w.claim(1)
	outcomes, err := w.fulfiller.Bury(w.ctx, b, "given up")
	require.NoError(t, err)
	require.NoError(t, w.line.Settle(w.ctx, b, outcomes))
	w.lose(before)
	w.keep()
	got := w.statuses()
	require.Equal(t, []string{order.Confirmed, order.Failed}, []string{got[ann.ID], got[bob.ID]})
	w.clean()
}

// An order that was paid late is paid, though the database knows of its expiry alone.
func TestALatePaymentThatTheDatabaseLost(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(2, 1)
		paid := w.admit("ann", 1)
		w.work(1)
		w.exec("UPDATE orders SET status = 'expired', slot = NULL, ended_at = 5, released = 1 WHERE id = ?", paid.ID)
		w.exec("UPDATE stock SET available = available + 1, changes = changes + 1 WHERE sale_id = ?", theSale)
		require.NoError(w.t, w.line.Release(w.ctx, []queue.Ended{{ID: paid.ID, State: queue.Expired}}, 2))
		before := w.copyLedger()
		revived, err := w.line.ReclaimUnit(w.ctx, w.view().Epoch, "late", long, paid)
		require.NoError(w.t, err)
		w.exec("UPDATE orders SET status = 'paid', slot = 1, ended_at = 0, late_seq = ? WHERE id = ?", revived.Mark,
			paid.ID)
		w.exec("UPDATE stock SET available = available - 1, changes = changes + 1 WHERE sale_id = ?", theSale)
		require.NoError(w.t, w.line.Settle(w.ctx, revived.Batch,
			[]queue.Outcome{{ID: paid.ID, Op: queue.OpPaid, Pay: time.Now(), Ledger: 3}}))
		w.clean()

		w.lose(before)
		w.keep()
		require.Equal(w.t, order.Paid, w.statuses()[paid.ID])
		r := w.clean()
		require.EqualValues(w.t, []int64{1, 1, 1}, []int64{r.Live, r.LineStock, r.Restored})
	})
}

// That a payment must go back is not forgotten with the payment.
func TestARefundThatTheDatabaseLostIsStillDue(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(4, 1)
		cancelled, kept := w.admit("ann", 1), w.admit("bob", 1)
		w.work(1)
		before := w.copyLedger()
		w.work(1)
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, cancelled.ID, "ann"))
		for _, id := range []string{cancelled.ID, kept.ID} {
			w.exec("UPDATE orders SET refund = ? WHERE id = ?", order.RefundAmount, id)
			require.NoError(w.t, w.line.Refund(w.ctx, id))
		}
		w.lose(before)
		w.keep()
		for id, why := range map[string]string{cancelled.ID: order.RefundEnded, kept.ID: order.RefundAmount} {
			var row order.Row
			require.NoError(w.t, w.db.Write.Take(&row, "id = ?", id).Error)
			require.Equal(w.t, why, row.Refund)
			known, _, err := w.line.Lookup(w.ctx, []string{id})
			require.NoError(w.t, err)
			require.True(w.t, known[id].Refund)
			var news int64
			require.NoError(w.t, w.db.Read.Table("outbox").Where("order_id = ? AND event = 'order.refund_required'",
				id).Count(&news).Error)
			require.EqualValues(w.t, 1, news)
		}
		w.clean()
	})
}

// A worker that comes late writes as failed what the database lost and the line knows as confirmed. It was told: it
// stays an order.
func TestALateWorkerFailsNoConfirmedOrder(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(2, 1)
		before := w.copyLedger()
		w.admit("ann", 1)
		b := w.claim(1)
		outcomes, err := w.fulfiller.Handle(w.ctx, b)
		require.NoError(w.t, err)
		require.NoError(w.t, w.line.Settle(w.ctx, b, outcomes))
		w.lose(before)
		_, err = w.fulfiller.Bury(w.ctx, b, "given up")
		require.NoError(w.t, err)
		require.Equal(w.t, order.Failed, w.statuses()[b.Tickets[0].ID])

		w.keep()
		require.Equal(w.t, order.Confirmed, w.statuses()[b.Tickets[0].ID])
		r := w.clean()
		require.EqualValues(w.t, []int64{1, 1, 1}, []int64{r.Live, r.LineStock, r.Available})
	})
}

// Commits that are lost once more, while a rebuild is at work, take nothing from the line: it begins again.
func TestCommitsThatAreLostTwice(t *testing.T) {
	w := onSQLite(t)
	w.open(2, 1)
	before := w.copyLedger()
	tickets := w.admitMany(1)
	w.work(1)
	w.lose(before)
	again, restore := true, restore.NewRestorer(w.db, []string{"stream"}, time.Now, "test").Restore
	w.reconciler.RestoreBy(func(ctx context.Context, r inventory.Restoration) (inventory.Restored, error) {
		done, err := restore(ctx, r)
		if again {
			again = false
			w.lose(before)
		}
		return done, err
	})
	require.ErrorContains(t, w.reconciler.Reconcile(w.ctx), "lost orders again")
	require.True(t, w.view().Rebuilding, "nothing is sold meanwhile")
	w.clock.Advance(inventory.RebuildLease)
	w.keep()
	require.Equal(t, order.Confirmed, w.statuses()[tickets[0].ID])
	w.clean()
}

// What operators had set is known to the line, too: a stop is not undone, and added units that were sold are there
// again.
func TestADatabaseThatLostSettingsGetsThemBack(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(2, 1)
		before := w.copyLedger()
		sale, _ := w.get()
		_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 3, Actor: "ann",
			Reason: "found a box"})
		require.NoError(w.t, err)
		w.keep()
		w.admitMany(5)
		w.work(5)
		require.NoError(w.t, errors.Join(w.reconciler.SyncLine(w.ctx, theSale)))
		_, _, err = w.saleStore.SetState(w.ctx, theSale, inventory.Paused, "ann", "")
		require.NoError(w.t, err)
		w.keep()
		w.lose(before)
		w.exec("UPDATE sales SET state = 'open', version = ? WHERE id = ?", sale.Version, theSale)

		w.keep()
		sale, stock := w.get()
		require.Equal(w.t, inventory.Paused, sale.State)
		require.EqualValues(w.t, []int64{5, 0}, []int64{stock.Total, stock.Available})
		require.EqualValues(w.t, 5, w.clean().Live)
	})
}

// Where no unit is left for an order that was told confirmed, it fails, is counted, and its owner is told.
func TestWhatCannotBePutBackIsTold(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.restorer()
		w.open(3, 1)
		before := w.copyLedger()
		told := w.admitMany(3)
		w.work(3)
		w.lose(before)
		w.exec("UPDATE stock SET total = 2, available = 2 WHERE sale_id = ?", theSale)
		w.keep()
		got := w.statuses()
		require.Equal(w.t, []string{order.Confirmed, order.Confirmed, order.Failed},
			[]string{got[told[0].ID], got[told[1].ID], got[told[2].ID]})
		known, _, err := w.line.Lookup(w.ctx, []string{told[2].ID})
		require.NoError(w.t, err)
		require.Equal(w.t, queue.ReasonLost, known[told[2].ID].Reason)
		var news int64
		require.NoError(w.t, w.db.Read.Table("outbox").Where("order_id = ? AND event = 'order.failed'", told[2].ID).
			Count(&news).Error)
		require.EqualValues(w.t, 1, news)
		require.EqualValues(w.t, 1, w.clean().Refused)
	})
}

// A difference that stands is mended, a bounded number of times.
func TestAStandingDifferenceIsMended(t *testing.T) {
	w := onSQLite(t)
	w.open(20, 1)
	w.admitMany(4)
	gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler), w.clock.Now)
	gauges.MendBy(func(ctx context.Context, s inventory.SaleAudit) { _ = w.reconciler.Mend(ctx, s) })
	for round := range 4 {
		require.NoError(t, w.rdb.IncrBy(w.ctx, key("stock"), 5).Err())
		require.NoError(t, gauges.Measure(w.ctx))
		require.EqualValues(t, -5, w.audit().Difference, "once is no proof")
		require.NoError(t, gauges.Measure(w.ctx))
		if round < 3 {
			w.clean()
			continue
		}
		require.EqualValues(t, -5, w.audit().Difference, "the fourth within ten minutes needs a person")
		require.ErrorIs(t, w.reconciler.Mend(w.ctx, w.audit()), inventory.ErrMended)
		w.clock.Advance(11 * time.Minute)
		require.NoError(t, w.reconciler.Mend(w.ctx, w.audit()))
		w.clean()
	}
}

// A request that is repeated when the line has forgotten its order draws a sequence, and is no order that is missing.
func TestARepeatedRequestOfAForgottenOrderIsNotMissing(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(20, 1)
		ticket := w.admit("ann", 1)
		w.work(1)
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, ticket.ID, "ann"))
		repeat := func() {
			require.NoError(w.t, w.rdb.HDel(w.ctx, key("orders"), ticket.ID).Err())
			require.NoError(w.t, w.rdb.LRem(w.ctx, key("done"), 0, ticket.ID).Err())
			w.tickets = 0
			require.Equal(w.t, ticket.ID, w.admit("ann", 1).ID)
			w.clean()
		}
		repeat()
		w.work(1)
		w.clean()
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.Zero(w.t, w.clean().Lost)

		repeat()
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale)) // its sequence is of an earlier loading when it ends
		w.work(1)
		require.Zero(w.t, w.clean().Lost)
	})
}

// A sale that cannot be looked at keeps no other from being mended.
func TestADifferenceIsMendedBesideASaleThatCannotBeAsked(t *testing.T) {
	w := onSQLite(t)
	w.create(newSale("a-broken", 5, 1))
	w.open(20, 1)
	require.NoError(t, w.rdb.Set(w.ctx, "sluice:{a-broken/0}:wait", "not a list", 0).Err())
	gauges := inventory.NewGauges(w.cache, w.auditor, slog.New(slog.DiscardHandler), w.clock.Now)
	gauges.MendBy(func(ctx context.Context, s inventory.SaleAudit) { _ = w.reconciler.Mend(ctx, s) })
	require.NoError(t, w.rdb.IncrBy(w.ctx, key("stock"), 5).Err())
	for range 2 {
		require.ErrorContains(t, gauges.Measure(w.ctx), "a-broken")
	}
	w.clean()
}

// An accepted order that no store holds is a difference until a loading of the line has recorded it as lost.
func TestOrdersInNoStoreAreCounted(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(20, 1)
		lost := w.admitMany(4)[3]
		w.work(2)
		record := w.rdb.HGet(w.ctx, key("orders"), lost.ID).Val()
		require.NoError(w.t, w.rdb.HDel(w.ctx, key("orders"), lost.ID).Err())
		require.NoError(w.t, w.rdb.HDel(w.ctx, key("holders"), lost.User).Err())
		require.NoError(w.t, w.rdb.LRem(w.ctx, key("wait"), 1, lost.ID).Err())
		require.NoError(w.t, w.rdb.Incr(w.ctx, key("stock")).Err())
		require.NotEmpty(w.t, record)
		r := w.audit()
		require.Zero(w.t, r.Difference, "no unit is missing")
		require.EqualValues(w.t, 1, r.Missing)
		require.False(w.t, r.Clean)
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		r = w.clean()
		require.EqualValues(w.t, []int64{0, 1}, []int64{r.Missing, r.Lost})
		require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
		require.EqualValues(w.t, 1, w.clean().Lost, "it is recorded once")
	})
}

// The newest tickets may be known to those alone who admitted them: a reconciler elsewhere adds what it was answered.
func TestEveryProcessAddsWhatItWasAnswered(t *testing.T) {
	w := onSQLite(t)
	w.open(20, 1)
	w.admitMany(2)
	other := queue.NewLines(dial(t, w.addr), queue.DefaultPrefix)
	sale, _ := w.get()
	for _, user := range []string{"ann", "bob", "cat"} {
		a, err := other.Of(theSale).Admit(w.ctx, sale.Epoch, 100,
			[]queue.Request{{ID: "o-" + user, User: user, Units: 1, Fingerprint: "f"}})
		require.NoError(t, err)
		require.NoError(t, a[0].Err)
	}
	require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
	w.keep() // it knows of its own two alone
	require.EqualValues(t, 2, w.clean().Lost)
	elsewhere := inventory.NewReconciler(w.db, other, defaultCap, slog.New(slog.DiscardHandler), w.clock.Now)
	for range 2 {
		require.NoError(t, elsewhere.Reconcile(w.ctx))
	}
	require.EqualValues(t, 5, w.clean().Lost)
}

// What was lost is counted once, however often the line is loaded afterwards, and by whom.
func TestALossIsCountedOnce(t *testing.T) {
	for name, loader := range map[string]string{"by who has seen it": "gateway", "by another": "keeper"} {
		t.Run(name, func(t *testing.T) {
			w := onSQLite(t)
			w.open(20, 1)
			w.admitMany(2)
			lines := queue.NewLines(dial(t, w.addr), queue.DefaultPrefix)
			gateway := inventory.NewReconciler(w.db, lines, defaultCap, slog.New(slog.DiscardHandler), w.clock.Now)
			sale, _ := w.get()
			for _, user := range []string{"ann", "bob", "cat"} {
				a, err := lines.Of(theSale).Admit(w.ctx, sale.Epoch, 100,
					[]queue.Request{{ID: "o-" + user, User: user, Units: 1, Fingerprint: "f"}})
				require.NoError(t, err)
				require.NoError(t, a[0].Err)
			}
			require.NoError(t, w.rdb.FlushAll(w.ctx).Err())
			w.keep()
			require.NoError(t, gateway.Reconcile(w.ctx))
			require.EqualValues(t, 5, w.clean().Lost)
			w.admit("dan", 1) // under a sequence that was lost
			by := map[string]*inventory.Reconciler{"gateway": gateway, "keeper": w.reconciler}[loader]
			for range 2 {
				require.NoError(t, by.Rebuild(w.ctx, theSale))
				require.NoError(t, errors.Join(w.reconciler.Reconcile(w.ctx), gateway.Reconcile(w.ctx)))
				require.EqualValues(t, 5, w.clean().Lost)
			}
		})
	}
}

// Two servers that both hold a verified line, after a partition: the one with the older loading leaves the sale alone
// for a while.
func TestTwoServersDoNotTakeALineFromEachOther(t *testing.T) {
	w := onSQLite(t)
	w.open(20, 1)
	w.admitMany(2)
	other := queue.NewLines(testkit.Redis(t).Client(), queue.DefaultPrefix) // the side that was promoted
	elsewhere := inventory.NewReconciler(w.db, other, defaultCap, slog.New(slog.DiscardHandler), w.clock.Now)
	require.NoError(t, elsewhere.Reconcile(w.ctx))
	epoch, _ := w.get()
	for range 3 {
		require.ErrorIs(t, w.reconciler.Reconcile(w.ctx), inventory.ErrElsewhere)
		require.NoError(t, elsewhere.Reconcile(w.ctx))
	}
	after, _ := w.get()
	require.Equal(t, epoch.Epoch, after.Epoch)
	_, err := w.try("ann", 1)
	require.ErrorIs(t, err, queue.ErrNotReady)
	w.clock.Advance(time.Minute)
	require.NoError(t, w.reconciler.Reconcile(w.ctx), "the other is gone for good")
	w.admit("ann", 1)
}

// A record that somebody has overwritten tells neither unit nor user: the rebuild that mends the difference frees both.
func TestAnOverwrittenTicketIsMended(t *testing.T) {
	w := onSQLite(t)
	w.open(5, 1)
	spoilt := w.admit("ann", 1)
	w.admit("bob", 1)
	require.NoError(t, w.rdb.HSet(w.ctx, key("orders"), spoilt.ID, "garbage").Err())
	b := w.claim(2)
	require.Len(t, b.Poisoned, 1)
	outcomes, err := w.fulfiller.Handle(w.ctx, b)
	require.NoError(t, err)
	outcomes = append(outcomes, queue.Outcome{ID: spoilt.ID, Op: queue.OpDead, Reason: "unreadable"})
	require.NoError(t, w.line.Settle(w.ctx, b, outcomes))
	r := w.audit()
	require.EqualValues(t, []int64{1, 1}, []int64{r.Difference, r.Missing})
	require.NoError(t, w.reconciler.Mend(w.ctx, r))
	r = w.clean()
	require.EqualValues(t, []int64{4, 1, 1}, []int64{r.LineStock, r.Live, r.Lost})
	w.admit("ann", 1)
}

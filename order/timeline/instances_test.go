package order_test

import (
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// number enrols a process.
func (w *world) number(name string) int64 {
	w.t.Helper()
	n, err := inventory.NewRegistry(w.db).Enrol(w.ctx, name, "gateway", "v1", time.Now())
	require.NoError(w.t, err)
	return n
}

// staff gives each part a process of its own.
func (w *world) staff() {
	w.t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	lines := func(name string) *queue.Lines { return w.lines.Numbered(w.number(name)) }
	w.fulfiller.On(order.InstanceMark(w.number("the-worker")))
	w.canceller = order.NewCanceller(order.CancellerParts{
		DB: w.db, Lines: lines("the-canceller"), Reconciler: w.reconciler, Channels: channels,
		OnCommit: func() {}, Log: log, Now: time.Now,
	})
	w.payer = order.NewPayer(order.PayerParts{
		DB: w.db, Lines: lines("the-payer"), Sales: w.sales, Lease: lease, Channels: channels,
		OnCommit: func() {}, Log: log, Now: w.cache.Now, Metrics: reg,
	})
	w.expirer = order.NewExpirer(order.ExpirerParts{
		DB: w.db, Lines: lines("the-expirer"), Reconciler: w.reconciler, Active: w.cache.Active,
		Channels: channels, OnCommit: func() {}, Log: log, Now: w.cache.Now, Metrics: reg,
	})
	w.lines = lines("the-gateway")
	w.line = w.lines.Of(theSale)
}

// by says which process did each step of an order; its notifications are left out.
func (w *world) by(id string) map[string]string {
	w.t.Helper()
	who := map[string]string{}
	_, events := w.steps(id)
	for _, e := range events {
		who[e.Step] = e.Instance
	}
	maps.DeleteFunc(who, func(step, _ string) bool { return len(step) > 6 && step[:6] == "notify" })
	return who
}

// Each step names the process that did it, whatever became of the order afterwards.
func TestTimelineNamesEachInstance(t *testing.T) {
	eachUnpaid(t, 9, 9, func(w *world) {
		w.staff()
		waiting := w.admit("ann", 1)
		require.Equal(w.t, map[string]string{"admitted": "the-gateway"}, w.by(waiting.ID))
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, waiting.ID, "ann"))
		require.Equal(w.t, map[string]string{"admitted": "the-gateway"}, w.by(waiting.ID),
			"its end is written by a worker")
		w.work()
		cancelled := map[string]string{"admitted": "the-gateway", "claimed": "the-worker", "cancelled": "the-canceller"}
		require.Equal(w.t, cancelled, w.by(waiting.ID))
		require.Empty(w.t, w.rows()[waiting.ID].Locale)

		confirmed := w.confirm("bob", 1)
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, confirmed.ID, "bob"))
		cancelled["confirmed"] = "the-worker"
		require.Equal(w.t, cancelled, w.by(confirmed.ID))

		late := w.expired("cem", 1)
		steps := map[string]string{"admitted": "the-gateway", "claimed": "the-worker", "confirmed": "the-worker",
			"expired": "the-expirer"}
		require.Equal(w.t, steps, w.by(late.ID))
		_, err := w.pay(late.ID, pays(late.ID, 1))
		require.NoError(w.t, err)
		steps["paid"], steps["payment late"] = "the-payer", "the-payer"
		require.Equal(w.t, steps, w.by(late.ID), "an expiry is not forgotten when the order is paid late")
		short, _ := w.steps(late.ID)
		require.Less(w.t, slices.Index(short, "expired"), slices.Index(short, "paid"))

		// A payment's process stays known after the order's end, and one that nobody remembers keeps its number.
		ended := w.expired("dan", 1)
		refund := pays(ended.ID, 1)
		refund.AmountCents++
		_, err = w.pay(ended.ID, refund)
		require.NoError(w.t, err)
		require.Equal(w.t, "the-payer", w.by(ended.ID)["payment mismatch"])
		w.exec("DELETE FROM instances WHERE name = 'the-payer'")
		require.Regexp(w.t, `^#\d+$`, w.by(ended.ID)["payment mismatch"])
		w.clean()
	})
}

// Orders made together, those of several sales and those of a batch, keep who admitted them; so does a letter with
// another life.
func TestOrdersKeepWhoAdmittedThem(t *testing.T) {
	eachDatabase(t, 9, 1, func(w *world) {
		w.staff()
		w.openSale("second", 9, 1)
		first, second := w.admit("ann", 1), w.try("second", w.request("bob", 1)).Ticket
		one := w.claim(9)
		two, err := w.lines.Of("second").Claim(w.ctx, "two", 9, lease)
		require.NoError(w.t, err)
		_, err = w.fulfiller.HandleMultiSale(w.ctx, []queue.Batch{one, two})
		require.NoError(w.t, err)
		for _, id := range []string{first.ID, second.ID} {
			require.Equal(w.t, "the-gateway", w.by(id)["admitted"])
			require.Equal(w.t, "the-worker", w.by(id)["confirmed"])
		}

		letter := w.admit("cem", 1)
		b := w.claim(9)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up")
		require.NoError(w.t, err)
		w.settle(b, byID(outcomes))
		require.Equal(w.t, "the-worker", w.by(letter.ID)["failed"])
		w.exec("UPDATE outbox SET told_by = ? WHERE order_id = ? AND channel = 'email'", w.number("the-notifier"),
			letter.ID)
		log := w.adminLogOf(w.number("the-desk"))
		require.NoError(w.t, order.NewDeadLetters(w.db, w.lines, log).
			Requeue(w.ctx, theSale, letter.ID, "olga", "mended"))
		w.work()
		require.Equal(w.t, "the-gateway", w.by(letter.ID)["admitted"])
		require.Equal(w.t, "the-desk", w.by(letter.ID)["dead.requeue"])
		_, events := w.steps(letter.ID)
		told := slices.IndexFunc(events, func(e order.Event) bool { return e.Step == "notify email order.failed" })
		require.Equal(w.t, "the-notifier", events[told].Instance)
	})
}

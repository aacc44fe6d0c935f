package timeline_test

import (
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/fleet"
	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/expiry"
	"sluice/order/payment"
	"sluice/order/timeline"
	"sluice/queue"
)

// number enrols a process.
func number(w *orders.World, name string) int64 {
	w.T.Helper()
	n, err := fleet.NewRegistry(w.DB).Enrol(w.Ctx, name, "gateway", "v1", time.Now())
	require.NoError(w.T, err)
	return n
}

// staff gives each part a process of its own.
func staff(w *orders.World) {
	w.T.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	lines := func(name string) *queue.Lines { return w.Lines.ForInstance("", number(w, name)) }
	w.Fulfiller.On(order.InstanceMark(number(w, "the-worker")))
	w.Canceller = order.NewCanceller(order.CancellerParts{
		DB: w.DB, Lines: lines("the-canceller"), Reconciler: w.Reconciler, Channels: orders.Channels(),
		OnCommit: func() {}, Log: log, Now: time.Now,
	})
	w.Payer = payment.NewPayer(payment.Parts{
		DB: w.DB, Lines: lines("the-payer"), Sales: w.Sales, Lease: orders.Lease, Channels: orders.Channels(),
		OnCommit: func() {}, Log: log, Now: w.Cache.Now, Metrics: reg,
	})
	w.Expirer = expiry.NewExpirer(expiry.Parts{
		DB: w.DB, Lines: lines("the-expirer"), Reconciler: w.Reconciler, Active: w.Cache.Active,
		Channels: orders.Channels(), OnCommit: func() {}, Log: log, Now: w.Cache.Now, Metrics: reg,
	})
	w.Lines = lines("the-gateway")
	w.Line = w.Lines.Of(orders.Sale)
}

// instancesOf says which process did each step of an order; its notifications are left out.
func instancesOf(w *orders.World, id string) map[string]string {
	w.T.Helper()
	who := map[string]string{}
	_, events := w.Steps(id)
	for _, e := range events {
		who[e.Step] = e.Instance
	}
	maps.DeleteFunc(who, func(step, _ string) bool { return len(step) > 6 && step[:6] == "notify" })
	return who
}

// Each step names the process that did it, whatever became of the order afterwards.
func TestTimelineNamesEachInstance(t *testing.T) {
	orders.EachUnpaid(t, 9, 9, func(w *orders.World) {
		staff(w)
		waiting := w.Admit("ann", 1)
		require.Equal(w.T, map[string]string{"admitted": "the-gateway"}, instancesOf(w, waiting.ID))
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, waiting.ID, "ann"))
		require.Equal(w.T, map[string]string{"admitted": "the-gateway"}, instancesOf(w, waiting.ID),
			"its end is written by a worker")
		w.Work()
		cancelled := map[string]string{"admitted": "the-gateway", "claimed": "the-worker", "cancelled": "the-canceller"}
		require.Equal(w.T, cancelled, instancesOf(w, waiting.ID))
		require.Empty(w.T, w.Rows()[waiting.ID].Locale)

		confirmed := w.Confirm("bob", 1)
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, confirmed.ID, "bob"))
		cancelled["confirmed"] = "the-worker"
		require.Equal(w.T, cancelled, instancesOf(w, confirmed.ID))

		late := w.Expire("cem", 1)
		steps := map[string]string{"admitted": "the-gateway", "claimed": "the-worker", "confirmed": "the-worker",
			"expired": "the-expirer"}
		require.Equal(w.T, steps, instancesOf(w, late.ID))
		_, err := w.Pay(late.ID, orders.Pays(late.ID, 1))
		require.NoError(w.T, err)
		steps["paid"], steps["payment late"] = "the-payer", "the-payer"
		require.Equal(w.T, steps, instancesOf(w, late.ID), "an expiry is not forgotten when the order is paid late")
		short, _ := w.Steps(late.ID)
		require.Less(w.T, slices.Index(short, "expired"), slices.Index(short, "paid"))

		// A payment's process stays known after the order's end, and one that nobody remembers keeps its number.
		ended := w.Expire("dan", 1)
		refund := orders.Pays(ended.ID, 1)
		refund.AmountCents++
		_, err = w.Pay(ended.ID, refund)
		require.NoError(w.T, err)
		require.Equal(w.T, "the-payer", instancesOf(w, ended.ID)["payment mismatch"])
		w.Exec("DELETE FROM instances WHERE name = 'the-payer'")
		require.Regexp(w.T, `^#\d+$`, instancesOf(w, ended.ID)["payment mismatch"])
		w.Clean()
	})
}

// Orders made together, those of several sales and those of a batch, keep who admitted them; so does a letter with
// another life.
func TestOrdersKeepWhoAdmittedThem(t *testing.T) {
	orders.EachDatabase(t, 9, 1, func(w *orders.World) {
		staff(w)
		w.OpenSale("second", 9, 1)
		first, second := w.Admit("ann", 1), w.Try("second", w.Request("bob", 1)).Ticket
		one := w.Claim(9)
		two, err := w.Lines.Of("second").Claim(w.Ctx, "two", 9, orders.Lease)
		require.NoError(w.T, err)
		_, err = w.Fulfiller.HandleMultiSale(w.Ctx, []queue.Batch{one, two})
		require.NoError(w.T, err)
		for _, id := range []string{first.ID, second.ID} {
			require.Equal(w.T, "the-gateway", instancesOf(w, id)["admitted"])
			require.Equal(w.T, "the-worker", instancesOf(w, id)["confirmed"])
		}

		letter := w.Admit("cem", 1)
		b := w.Claim(9)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.NoError(w.T, err)
		w.Settle(b, orders.ByID(outcomes))
		require.Equal(w.T, "the-worker", instancesOf(w, letter.ID)["failed"])
		w.Exec("UPDATE outbox SET told_by = ? WHERE order_id = ? AND channel = 'email'", number(w, "the-notifier"),
			letter.ID)
		log := w.AdminLog(number(w, "the-desk"))
		require.NoError(w.T, deadletter.NewAdmin(w.DB, w.Lines, log).
			Requeue(w.Ctx, orders.Sale, letter.ID, "olga", "mended"))
		w.Work()
		require.Equal(w.T, "the-gateway", instancesOf(w, letter.ID)["admitted"])
		require.Equal(w.T, "the-desk", instancesOf(w, letter.ID)["dead.requeue"])
		_, events := w.Steps(letter.ID)
		failed := func(e timeline.Event) bool { return e.Step == "notify email order.failed" }
		notified := slices.IndexFunc(events, failed)
		require.Equal(w.T, "the-notifier", events[notified].Instance)
	})
}

package orders

import (
	"log/slog"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/notify"
	"sluice/order"
	"sluice/order/timeline"
	"sluice/queue"
)

// Rows returns the rows of all orders by id.
func (w *World) Rows() map[string]order.Row {
	w.T.Helper()
	var rows []order.Row
	require.NoError(w.T, w.DB.Read.Find(&rows).Error)
	all := make(map[string]order.Row, len(rows))
	for _, r := range rows {
		all[r.ID] = r
	}
	return all
}

// Count counts rows by status.
func (w *World) Count() map[string]int {
	w.T.Helper()
	counts := map[string]int{}
	for _, r := range w.Rows() {
		counts[r.Status]++
	}
	return counts
}

// News counts outbox rows by event and channel.
func (w *World) News() map[string]int {
	w.T.Helper()
	var rows []notify.Row
	require.NoError(w.T, w.DB.Read.Find(&rows).Error)
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.Event+" "+r.Channel]++
	}
	return counts
}

// Available returns what the ledger has left.
func (w *World) Available() int64 {
	w.T.Helper()
	_, stock := w.Get()
	return stock.Available
}

// View returns the line's numbers.
func (w *World) View() queue.View {
	w.T.Helper()
	v, err := w.Line.View(w.Ctx)
	require.NoError(w.T, err)
	return v
}

// Get returns the sale and its ledger.
func (w *World) Get() (inventory.Sale, inventory.Stock) {
	w.T.Helper()
	sale, stock, err := w.Sales.Get(w.Ctx, Sale)
	require.NoError(w.T, err)
	return sale, stock
}

// Audit audits and returns the sale's numbers.
func (w *World) Audit() audit.Sale {
	w.T.Helper()
	result, err := w.Auditor.Run(w.Ctx, Sale)
	require.NoError(w.T, err)
	require.Len(w.T, result.Sales, 1)
	require.Equal(w.T, result.Verdict, result.Sales[0].Verdict)
	require.Equal(w.T, result.Verdict == audit.Clean, result.Sales[0].Clean)
	return result.Sales[0]
}

// Clean audits, finds nothing, and returns the sale's numbers.
func (w *World) Clean() audit.Sale {
	w.T.Helper()
	r := w.Audit()
	require.True(w.T, r.Clean, "%+v", r)
	return r
}

// Ops counts the outcomes by what they say.
func Ops(outcomes map[string]queue.Outcome) map[string]int {
	counts := map[string]int{}
	for _, o := range outcomes {
		if o.Op == queue.OpRetry {
			o.Reason = "" // for its history only, in each database's words
		}
		counts[string(o.Op)+o.Reason]++
	}
	return counts
}

// Exec changes the database behind everybody's back.
func (w *World) Exec(sql string, args ...any) {
	w.T.Helper()
	require.NoError(w.T, w.DB.Write.WithContext(w.Ctx).Exec(sql, args...).Error)
}

// Ticket returns a ticket as the line has it.
func (w *World) Ticket(id string) queue.Ticket {
	w.T.Helper()
	tickets, _, err := w.Line.Lookup(w.Ctx, []string{id})
	require.NoError(w.T, err)
	return tickets[id]
}

// Unpaid returns how many orders the line knows a deadline of.
func (w *World) Unpaid() int64 {
	w.T.Helper()
	n, err := w.Line.Unpaid(w.Ctx)
	require.NoError(w.T, err)
	return n
}

// Look returns an order as its owner sees it now, from the line.
func (w *World) Look(id string) order.View {
	w.T.Helper()
	views, err := w.Finder.Many(w.Ctx, Sale, []string{id})
	require.NoError(w.T, err)
	return views[id]
}

// Entry returns the sale as the cache has it by now.
func (w *World) Entry() *inventory.Entry {
	w.T.Helper()
	require.NoError(w.T, w.Cache.Refresh(w.Ctx))
	e, ok := w.Cache.Get(Sale)
	require.True(w.T, ok)
	return e
}

// AdminLog returns the admin log that an instance writes.
func (w *World) AdminLog(instance int64) *adminlog.Log {
	return adminlog.New(w.DB, slog.New(slog.DiscardHandler), time.Now, instance)
}

// Timelines returns the timelines of all orders.
func (w *World) Timelines() *timeline.Timelines {
	return timeline.NewTimelines(w.DB, w.Lines, w.Finder)
}

// Steps returns the events of an order's timeline, also in short.
func (w *World) Steps(id string) (short []string, events []timeline.Event) {
	w.T.Helper()
	timeline, err := w.Timelines().Of(w.Ctx, id)
	require.NoError(w.T, err)
	for i, e := range timeline.Events {
		short = append(short, e.Step)
		require.False(w.T, e.At.IsZero())
		require.True(w.T, i == 0 || !e.At.Before(timeline.Events[i-1].At), "oldest first")
	}
	return short, timeline.Events
}

package queue_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// rebuildAll is the owner of the ledger: it knows what was confirmed, and
// perhaps orders whose worker died before it could settle.
func (w *walk) rebuildAll(rt *rapid.T) {
	m := w.m
	m.epoch++
	began, err := w.Begin(w.Ctx, m.epoch)
	require.NoError(rt, err)
	require.True(rt, began)
	for _, batch := range m.batches {
		w.late = append(w.late, batch.Batch)
	}
	m.begin(rt, w.List("suspect"))
	if len(m.wait) > 0 && rapid.Bool().Draw(rt, "strand") {
		lost := m.wait[0]
		require.NoError(rt, w.Redis.LRem(w.Ctx, w.Key("wait"), 0, lost).Err())
		m.wait = m.wait[1:]
		if m.tickets[lost].ordered { // an order needs no place in line
			m.served++
		} else {
			m.isolated = append(m.isolated, lost)
		}
	}
	left, err := w.Survey(w.Ctx, m.epoch)
	survivors := left.Tickets
	require.NoError(rt, err)
	var got, want []string
	for _, t := range survivors {
		got = append(got, t.ID)
	}
	want = append(append(want, m.wait...), m.isolated...)
	require.ElementsMatch(rt, want, got, "survivors")
	var live []queue.Ticket
	for _, e := range m.live() {
		if e.held {
			continue // its order, if there is one, ends before the line is loaded
		}
		if e.State == queue.Confirmed || rapid.IntRange(0, 9).Draw(rt, "unsettled") == 0 {
			t := queues.Confirmed(e.ID, e.User, e.Seq)
			t.Units, t.Slot, t.Refund = e.Units, e.Slot, e.Refund
			e.State, e.ordered = queue.Confirmed, true
			live = append(live, t)
		}
	}
	require.NoError(rt, w.Restore(w.Ctx, m.epoch, live, left))
	s := w.settings
	s.Epoch, s.Version, s.Total, s.Cap = m.epoch, m.version, m.total, m.cap
	w.Epoch = m.epoch
	m.reopen()
	require.NoError(rt, w.Reopen(w.Ctx, s, queue.Reopened{Stock: m.stock, Seq: m.seq,
		Ended: int64(len(m.listed()) - m.bounded())}))
}

// check compares every part of the line with the model.
func (w *walk) check(rt *rapid.T) {
	m, b := w.m, *w.box
	b.T = quiet{TB: w.T, rt: rt}
	require.Equal(rt, m.holders(), b.Holders(m.limit))
	require.Equal(rt, fmt.Sprint(m.wait), fmt.Sprint(b.List("wait")))
	require.Equal(rt, fmt.Sprint(m.isolated), fmt.Sprint(b.List("suspect")))
	leased := map[string]string{}
	for id, batch := range m.batches {
		leased[id] = strings.Join(batch.ids, ",")
	}
	require.Equal(rt, leased, b.Redis.HGetAll(b.Ctx, b.Key("leased")).Val())
	attempts := map[string]string{}
	for id, n := range m.attempts {
		attempts[id] = strconv.Itoa(n)
	}
	require.Equal(rt, attempts, b.Attempts())
	v := b.MustView()
	require.Equal(rt, []int64{m.stock, m.seq, m.claimed, m.served, m.version, int64(len(m.retry)),
		int64(len(m.batches))},
		[]int64{v.Stock, v.Seq, v.Claimed, v.Served, v.Version, v.Retrying, v.Leased},
		"stock, seq, claimed, served, version, retrying, leased")
	for id, record := range b.Redis.HGetAll(b.Ctx, b.Key("orders")).Val() {
		require.Equal(rt, string(m.tickets[id].State), record[:1], id)
		require.Equal(rt, m.tickets[id].Refund, strings.HasSuffix(record, "\tr"), "refund of %s", id)
	}
	require.EqualValues(rt, m.bounded(), v.Bounded, "what the cap bounds")
	b.CheckUnits(m.limit)
}

// quiet lets the helpers of a box fail a run of rapid instead of the test, so
// that rapid can look for a shorter one.
type quiet struct {
	testing.TB
	rt *rapid.T
}

func (q quiet) Helper()                        {}
func (q quiet) Errorf(format string, a ...any) { q.rt.Errorf(format, a...) }
func (q quiet) FailNow()                       { q.rt.FailNow() }

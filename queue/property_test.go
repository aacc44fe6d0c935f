package queue_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// Whatever happens to a line, in whatever order, it is as the model says, and
// nothing is lost or doubled.
func TestLineAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			rdb, run, admitted := testkit.ProductClient(t, kind.Addr), 0, int64(0)
			rapid.Check(t, func(rt *rapid.T) {
				run++
				s := queues.OpenSale()
				s.Cap, s.Limit, s.Total = 8, 3, 20
				b := boxOn(t, rdb, fmt.Sprint("sale-", run), s)
				w := &walk{box: b, m: newModel(s), settings: s}
				rt.Repeat(map[string]func(*rapid.T){
					"admit": w.admit, "claim": w.claimSome, "settle": w.settleOne, "fenced": w.settleLate,
					"reclaim": w.reclaim,
					"promote": w.promote, "cancel": w.cancel, "release": w.release, "configure": w.configure,
					"rebuild": w.rebuildAll,
					"requeue": w.requeue, "drop": w.drop, "refund": w.refund, "discard": w.discard,
					"": w.check,
				})
				admitted += w.m.seq
				b.lose()
			})
			require.Positive(t, admitted, "walks that did nothing prove nothing")
		})
	}
}

// walk is one random walk through the life of a line and its model. An action
// that does not apply calls rt.Skip, which is how rapid is told to draw another
// one: it skips that step of the walk, never the test.
type walk struct {
	*box
	m        *model
	settings queue.Settings
	n        int
	late     []queue.Batch // batches that were taken from their worker or have been settled
}

func (w *walk) name(prefix string) string {
	w.n++
	return fmt.Sprint(prefix, w.n)
}

// known draws an order that was admitted at some time.
func (w *walk) known(rt *rapid.T) string {
	if len(w.m.tickets) == 0 {
		rt.Skip("no orders yet")
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(w.m.tickets))).Draw(rt, "order")
}

func (w *walk) admit(rt *rapid.T) {
	var requests []queue.Request
	for range rapid.IntRange(1, 4).Draw(rt, "requests") {
		user := rapid.SampledFrom([]string{"ann", "bob", "cat", "dan", "eve", "fay", "gus"}).Draw(rt, "user")
		r := queues.Ask(w.name("o"), user)
		r.Units = rapid.IntRange(1, 3).Draw(rt, "units")
		if len(w.m.tickets) > 0 && rapid.IntRange(0, 3).Draw(rt, "again") == 0 {
			if e := w.m.tickets[w.known(rt)]; e.known {
				r.ID = e.ID // with the same user by chance only
			}
		}
		requests = append(requests, r)
	}
	// How long a unit that came back is not sold is a matter of time, and has a test of its own.
	require.NoError(rt, w.Redis.HDel(w.Ctx, w.Key("meta"), "sold_out", "full").Err())
	for i, got := range w.box.MustAdmit(requests...) {
		want, replayed := w.m.admit(requests[i])
		var limit queue.LimitError
		if w.m.requeuedOf(requests[i].User) && errors.As(want, &limit) {
			// Which of a user's orders is the newest is no promise once a letter came back: it holds a slot
			// anew, under its old place.
			require.ErrorAs(rt, got.Err, &limit, "%+v", requests[i])
			require.Equal(rt, requests[i].User, w.m.tickets[limit.OrderID].User)
			continue
		}
		require.Equal(rt, want, got.Err, "%+v", requests[i])
		require.Equal(rt, replayed, got.Replayed)
		if want == nil && !replayed {
			e := w.m.tickets[requests[i].ID]
			require.Equal(rt, []any{e.Seq, e.Slot, e.Units, e.Position},
				[]any{got.Ticket.Seq, got.Ticket.Slot, got.Ticket.Units, got.Ticket.Position})
		}
	}
}

func (w *walk) claimSome(rt *rapid.T) {
	id, n := w.name("b"), rapid.IntRange(1, 5).Draw(rt, "n")
	want, solo := w.m.claim(id, n)
	got := w.MustClaim(id, n)
	require.Equal(rt, fmt.Sprint(want), fmt.Sprint(queues.IDs(got)))
	require.Equal(rt, solo, got.Solo)
	if len(want) == 0 {
		return
	}
	if solo {
		require.Equal(rt, w.m.attempts[want[0]], got.Tickets[0].Attempts)
	}
	w.m.batches[id].Batch = got
}

func (w *walk) batch(rt *rapid.T) *held {
	if len(w.m.batches) == 0 {
		rt.Skip("nothing leased")
	}
	return w.m.batches[rapid.SampledFrom(slices.Sorted(maps.Keys(w.m.batches))).Draw(rt, "batch")]
}

func (w *walk) outcomes(rt *rapid.T, ids []string) []queue.Outcome {
	var outcomes []queue.Outcome
	for _, id := range ids {
		op := rapid.SampledFrom([]queue.Op{queue.OpConfirm, queue.OpFail, queue.OpDead, queue.OpRetry,
			queue.OpBack}).Draw(rt, "op")
		state := w.m.tickets[id].State
		if (state == queue.Cancelled || state == queue.Expired) && (op == queue.OpConfirm || op == queue.OpFail) {
			op = queue.OpClose
		}
		outcomes = append(outcomes, queue.Outcome{ID: id, Op: op, Reason: "why", Delay: time.Hour})
	}
	return outcomes
}

func (w *walk) settleOne(rt *rapid.T) {
	batch := w.batch(rt)
	if batch.unleased {
		rt.Skip("its lease is gone")
	}
	outcomes := w.outcomes(rt, batch.ids)
	require.NoError(rt, w.Settle(w.Ctx, batch.Batch, outcomes))
	w.m.settle(batch.ID, outcomes)
	w.late = append(w.late, batch.Batch)
}

func (w *walk) settleLate(rt *rapid.T) {
	if len(w.late) == 0 {
		rt.Skip("nobody is late")
	}
	batch := rapid.SampledFrom(w.late).Draw(rt, "batch")
	require.ErrorIs(rt, w.Settle(w.Ctx, batch, w.outcomes(rt, queues.IDs(batch))), queue.ErrFenced)
}

func (w *walk) reclaim(rt *rapid.T) {
	batch := w.batch(rt)
	batch.unleased = true
	switch rapid.IntRange(0, 2).Draw(rt, "how") {
	case 0: // without a lease
		require.NoError(rt, w.Redis.ZRem(w.Ctx, w.Key("lease"), batch.ID).Err())
	case 1:
		w.setBack("lease", batch.ID)
	default:
		w.EndLease(batch.ID)
	}
	batches, tickets, err := w.Reclaim(w.Ctx)
	require.NoError(rt, err)
	require.EqualValues(rt, []int64{1, int64(len(batch.ids))}, []int64{batches, tickets})
	w.m.reclaim()
	w.late = append(w.late, batch.Batch)
}

func (w *walk) promote(rt *rapid.T) {
	if len(w.m.retry) == 0 {
		rt.Skip("nothing to retry")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(w.m.retry))).Draw(rt, "order")
	if rapid.Bool().Draw(rt, "set back") {
		w.setBack("retry", id)
	} else {
		w.EndDelay(id)
	}
	n, err := w.Promote(w.Ctx, 10)
	require.NoError(rt, err)
	require.EqualValues(rt, 1, n)
	delete(w.m.retry, id)
	w.m.isolated = append(w.m.isolated, id)
}

func (w *walk) cancel(rt *rapid.T) {
	id := w.known(rt)
	require.ErrorIs(rt, w.Cancel(w.Ctx, id, "stranger"), queue.ErrUnknown)
	for _, batch := range w.m.batches {
		if slices.Contains(batch.ids, id) && w.m.tickets[id].State == queue.Queued {
			require.ErrorIs(rt, w.Cancel(w.Ctx, id, w.m.tickets[id].User), queue.ErrBusy, "a worker has it")
		}
	}
	require.Equal(rt, w.m.cancel(id), w.Cancel(w.Ctx, id, w.m.tickets[id].User))
}

func (w *walk) requeue(rt *rapid.T) {
	id := w.known(rt)
	want := w.m.requeue(id)
	require.Equal(rt, want, w.Requeue(w.Ctx, id))
	if want == nil {
		require.ErrorIs(rt, w.Requeue(w.Ctx, id), queue.ErrNotDead, "by a second operator")
	}
}

func (w *walk) drop(rt *rapid.T) {
	id := w.known(rt)
	if !w.m.dead[id] {
		require.ErrorIs(rt, w.DropDead(w.Ctx, id), queue.ErrNotDead)
		return
	}
	require.NoError(rt, w.DropDead(w.Ctx, id))
	delete(w.m.dead, id)
}

func (w *walk) refund(rt *rapid.T) {
	id := w.known(rt)
	for range 2 {
		require.NoError(rt, w.Refund(w.Ctx, id))
	}
	if e := w.m.tickets[id]; e.known {
		e.Refund = true
	}
}

// discard is called at a bad moment: whoever calls it has not seen the newest of the line, or somebody is still in it.
func (w *walk) discard(rt *rapid.T) {
	seen := w.MustView()
	if len(w.m.listed()) == 0 {
		field := rapid.SampledFrom([]*int64{&seen.Epoch, &seen.Version, &seen.Seq}).Draw(rt, "field")
		*field--
	}
	require.NoError(rt, w.Discard(w.Ctx, seen, true))
	require.True(rt, w.MustView().Exists)
}

func (w *walk) release(rt *rapid.T) {
	id := w.known(rt)
	state := rapid.SampledFrom([]queue.State{queue.Cancelled, queue.Expired}).Draw(rt, "state")
	for range 2 {
		require.NoError(rt, w.Release(w.Ctx, []queue.Ended{{ID: id, State: state}}, 0))
	}
	if w.m.tickets[id].State == queue.Confirmed {
		w.m.end(id, state)
	}
}

func (w *walk) configure(rt *rapid.T) {
	s := w.settings
	s.Epoch, s.Version = w.m.epoch, w.m.version+int64(rapid.IntRange(-1, 1).Draw(rt, "version"))
	s.Total, s.Cap = int64(rapid.IntRange(5, 40).Draw(rt, "total")), rapid.IntRange(1, 12).Draw(rt, "cap")
	require.NoError(rt, w.Configure(w.Ctx, s))
	if s.Version > w.m.version {
		w.m.stock += s.Total - w.m.total
		w.m.version, w.m.total, w.m.cap = s.Version, s.Total, s.Cap
	}
}

package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

func TestAdmitChecksInOrder(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Cap, s.Limit, s.Total = 2, 1, 2
		b := newBox(t, addr, s)
		first := b.MustAdmit(queues.Ask("held", "ann"))[0]
		require.NoError(t, first.Err)

		// With room, stock and time left, only the limit stands in the way.
		require.Equal(t, queue.LimitError{OrderID: "held"}, b.MustAdmit(queues.Ask("x", "ann"))[0].Err)
		b.MustAdmit(queues.Ask("other", "bob"))
		// Now the line is full and the stock is gone: a holder still reads its order, others that the line is full.
		require.Equal(t, queue.LimitError{OrderID: "held"}, b.MustAdmit(queues.Ask("x", "ann"))[0].Err)
		require.ErrorIs(t, b.MustAdmit(queues.Ask("x", "cat"))[0].Err, queue.ErrFull)
		// An empty line without stock.
		b.SettleAll(b.MustClaim("b1", 10), queue.OpConfirm)
		b.forgetFull()
		require.Equal(t, queue.LimitError{OrderID: "held"}, b.MustAdmit(queues.Ask("x", "ann"))[0].Err)
		require.ErrorIs(t, b.MustAdmit(queues.Ask("x", "cat"))[0].Err, queue.ErrSoldOut)

		// The window comes before the limit, and what is known before everything.
		s.Version, s.State = 2, "closed"
		require.NoError(t, b.Configure(b.Ctx, s))
		require.ErrorIs(t, b.MustAdmit(queues.Ask("x", "ann"))[0].Err, queue.ErrEnded)
		replay := b.MustAdmit(queues.Ask("held", "ann"))[0]
		require.NoError(t, replay.Err)
		require.True(t, replay.Replayed)
		b.CheckUnits(s.Limit)
	})
}

// Who was told that nothing is left may repeat it until result.Firm: no unit that comes back before is sold before.
func TestAReturnedUnitWaitsForThoseWhoRepeatThatNothingIsLeft(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Total = 1
		b := newBox(t, addr, s)
		try := func(id, user string) queue.AdmitResult {
			t.Helper()
			result := b.Lines.Admit(b.Ctx, []queue.Ask{{Line: b.Line, Epoch: b.Epoch, Rate: queues.Rate,
				Requests: []queue.Request{queues.Ask(id, user)}}})[0]
			require.NoError(t, result.Err)
			return result
		}
		holder := "first"
		require.Zero(t, try(holder, holderOf(holder)).Firm, "it was admitted")
		giveBack := func() {
			t.Helper()
			require.NoError(t, b.Cancel(b.Ctx, holder, holderOf(holder)))
		}
		giveBack()
		holder = "second"
		require.NoError(t, try(holder, holderOf(holder)).Admissions[0].Err, "nobody was told that nothing is left")

		for round := range 5 {
			result, asked := try("refused", "zoe"), time.Now()
			require.ErrorIs(t, result.Admissions[0].Err, queue.ErrSoldOut)
			require.LessOrEqual(t, time.Until(result.Firm), 100*time.Millisecond)
			require.Positive(t, time.Until(result.Firm))
			giveBack()
			firm, n := result.Firm, 0
			holder = fmt.Sprintf("round-%d", round)
			for {
				result = try(holder, holderOf(holder))
				if result.Admissions[0].Err == nil {
					break
				}
				require.ErrorIs(t, result.Admissions[0].Err, queue.ErrSoldOut)
				require.EqualValues(t, 1, result.Stock)
				if result.Firm.After(firm) {
					firm = result.Firm // also what is told meanwhile holds
				}
				n++
				require.Less(t, time.Since(asked), 10*time.Second)
			}
			require.True(t, time.Now().After(firm), "sold %s before it was told that it would not be", time.Until(firm))
			require.Positive(t, n)
		}

		// Fewer than were asked for is no word about the others.
		s.Total, s.Version = 3, 2
		require.NoError(t, b.Configure(b.Ctx, s))
		two := queues.Ask("two", "zoe")
		two.Units = 3
		result := b.Lines.Admit(b.Ctx, []queue.Ask{{Line: b.Line, Epoch: b.Epoch, Rate: queues.Rate,
			Requests: []queue.Request{two}}})[0]
		require.ErrorIs(t, result.Admissions[0].Err, queue.ErrSoldOut)
		require.Zero(t, result.Firm)

		// A clock that was set back must not keep everybody waiting for it.
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("meta"), "sold_out", time.Now().Add(time.Hour).UnixMilli()).Err())
		require.NoError(t, try("after", "cem").Admissions[0].Err)
	})
}

// Who was told that the line is full may repeat it until result.Firm: no room that comes back before is taken before.
func TestRoomWaitsForThoseWhoRepeatThatTheLineIsFull(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Cap, s.Total = 1, 100
		b := newBox(t, addr, s)
		try := func(id string) queue.AdmitResult {
			t.Helper()
			result := b.Lines.Admit(b.Ctx, []queue.Ask{{Line: b.Line, Epoch: b.Epoch, Rate: queues.Rate,
				Requests: []queue.Request{queues.Ask(id, "user of "+id)}}})[0]
			require.NoError(t, result.Err)
			return result
		}
		require.NoError(t, try("first").Admissions[0].Err)
		waited := 0
		for round := range 20 {
			result := try("refused")
			require.ErrorIs(t, result.Admissions[0].Err, queue.ErrFull)
			require.False(t, result.Firm.IsZero())
			require.LessOrEqual(t, time.Until(result.Firm), 10*time.Millisecond)
			batch := b.MustClaim(fmt.Sprintf("b-%d", round), 1)
			b.SettleAll(batch, queue.OpConfirm)
			firm, asked := result.Firm, time.Now()
			for {
				if result = try(fmt.Sprintf("round-%d", round)); result.Admissions[0].Err == nil {
					break
				}
				require.ErrorIs(t, result.Admissions[0].Err, queue.ErrFull)
				if result.Firm.After(firm) {
					firm = result.Firm // also what is told meanwhile holds
				}
				waited++
				require.Less(t, time.Since(asked), 10*time.Second)
			}
			require.True(t, time.Now().After(firm), "admitted %s before it was told that nobody would be",
				time.Until(firm))
		}
		require.Positive(t, waited)

		// A clock that was set back must not keep everybody waiting for it.
		require.ErrorIs(t, try("refused").Admissions[0].Err, queue.ErrFull)
		b.SettleAll(b.MustClaim("last", 1), queue.OpConfirm)
		require.NoError(t, b.Redis.HSet(b.Ctx, b.Key("meta"), "full", time.Now().Add(time.Hour).UnixMilli()).Err())
		require.NoError(t, try("after").Admissions[0].Err)
	})
}

// That a sale has not started is repeated until it starts by Redis' clock, and not after that.
func TestNotStartedIsRepeatedUntilTheStart(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.StartsAt = time.Now().Add(40 * time.Millisecond)
		b := newBox(t, addr, s)
		for {
			result := b.Lines.Admit(b.Ctx, []queue.Ask{{Line: b.Line, Epoch: b.Epoch, Rate: queues.Rate,
				Requests: []queue.Request{queues.Ask("x", "ann")}}})[0]
			require.NoError(t, result.Err)
			if result.Admissions[0].Err == nil {
				break
			}
			require.True(t, result.Firm.Before(s.StartsAt.Add(time.Millisecond)), "%s after the start",
				time.Until(s.StartsAt))
		}
	})
}

func holderOf(id string) string { return "user of " + id }

func TestAdmitKeepsTheWindow(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		b := newBox(t, addr, s)
		begin, end := time.UnixMilli(s.StartsAt.UnixMilli()).UTC(), s.EndsAt
		later := time.UnixMilli(time.Now().Add(time.Hour).UnixMilli()).UTC()
		for _, c := range []struct {
			state      string
			start, end time.Time
			want       error
		}{
			{"draft", begin, end, queue.NotStartedError{}},
			{"draft", later, end.Add(time.Hour), queue.NotStartedError{}},
			{"open", later, end.Add(time.Hour), queue.NotStartedError{StartsAt: later}},
			{"paused", later, end.Add(time.Hour), queue.NotStartedError{StartsAt: later}},
			{"paused", begin, end, queue.ErrPaused},
			{"paused", begin, time.Now().Add(-time.Second), queue.ErrEnded},
			{"open", begin, time.Now().Add(-time.Second), queue.ErrEnded},
			{"closed", begin, end, queue.ErrEnded},
			{"open", begin, end, nil},
		} {
			s.Version++
			s.State, s.StartsAt, s.EndsAt = c.state, c.start, c.end
			require.NoError(t, b.Configure(b.Ctx, s))
			require.Equal(t, c.want, b.MustAdmit(queues.Ask("order", "ann"))[0].Err, "%s from %s to %s", c.state,
				c.start, c.end)
		}
		b.CheckUnits(s.Limit)
	})
}

func TestAdmitReplaysTheSameRequest(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		b.Enqueue(250)
		changed, stranger := queues.Ask("order", "ann"), queues.Ask("order", "bob")
		changed.Fingerprint = "another"
		answers := b.MustAdmit(queues.Ask("order", "ann"), queues.Ask("order", "ann"), changed, stranger)
		require.NoError(t, answers[0].Err)
		require.False(t, answers[0].Replayed)
		require.EqualValues(t, 251, answers[0].Ticket.Position)
		require.EqualValues(t, 3, answers[0].Ticket.ETASeconds)
		require.True(t, answers[1].Replayed)
		require.Equal(t, answers[0].Ticket, answers[1].Ticket)
		require.ErrorIs(t, answers[2].Err, queue.ErrMismatch)
		require.ErrorIs(t, answers[3].Err, queue.ErrMismatch)

		// Later, when the line has moved, the first answer still stands.
		b.MustClaim("b1", 200)
		before := b.dump()
		again := b.MustAdmit(queues.Ask("order", "ann"), changed, stranger)
		require.True(t, again[0].Replayed)
		require.Equal(t, answers[0].Ticket, again[0].Ticket)
		require.ErrorIs(t, again[1].Err, queue.ErrMismatch)
		require.ErrorIs(t, again[2].Err, queue.ErrMismatch)
		require.Equal(t, before, b.dump(), "a replay or a refusal changed the line")

		// A new request is placed behind what still waits: 50 others and the first one.
		require.EqualValues(t, 52, b.MustAdmit(queues.Ask("next", "ann"))[0].Ticket.Position)
	})
}

func TestAdmitRefusesWhatIsNotReady(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		for _, n := range []int{0, queue.MaxAdmit + 1} {
			_, err := b.Admit(b.Ctx, 1, queues.Rate, make([]queue.Request, n))
			require.Error(t, err)
		}
		one := []queue.Request{queues.Ask("order", "ann")}
		_, err := b.Admit(b.Ctx, 2, queues.Rate, one)
		require.ErrorIs(t, err, queue.ErrNotReady, "another epoch")
		_, err = b.Lines.Of("missing").Admit(b.Ctx, 1, queues.Rate, one)
		require.ErrorIs(t, err, queue.ErrNotReady, "a missing line")

		require.True(t, b.MustView().Verified)
		require.NoError(t, b.Redis.ScriptFlush(b.Ctx).Err())
		require.NoError(t, b.MustAdmit(one...)[0].Err, "scripts come back by themselves")
	})
}

// What is answered is counted back from the newest ticket; what is recorded is written by the
// script. They must be the same.
func TestAdmitAnswersWhatItRecords(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		s := queues.OpenSale()
		s.Total = 150
		b := newBox(t, addr, s)
		before := b.Enqueue(120)
		b.MustClaim("b1", 20)
		three := queues.Ask("three", "ann")
		three.Units, three.Email, three.Locale = 3, "ann@example.com", "de"
		batch := []queue.Request{queues.Ask(before[0], "nobody"), three, queues.Ask("x", "ann"),
			queues.Ask("bob-1", "bob"), queues.Ask("bob-2", "bob"), queues.Ask("bob-1", "bob"),
			queues.Ask("cat", "cat")}
		for i := range 30 {
			batch = append(batch, queues.Ask(fmt.Sprint("more-", i), fmt.Sprint("shopper-", i)))
		}
		const odd = 7.0 / 3
		first, err := b.Admit(b.Ctx, 1, odd, batch)
		require.NoError(t, err)
		admitted := 0
		for i, again := range b.MustAdmit(batch...) {
			if first[i].Err != nil || first[i].Replayed {
				continue
			}
			admitted++
			require.Equal(t, first[i].Ticket, again.Ticket)
			require.EqualValues(t, 120+admitted, again.Ticket.Seq)
		}
		require.Equal(t, 28, admitted, "150 units less 120, of which one order takes three")
		require.ErrorIs(t, first[0].Err, queue.ErrMismatch)
		require.Equal(t, 2, first[4].Ticket.Slot)
		require.EqualValues(t, 101, first[1].Ticket.Position)
		require.ErrorIs(t, first[len(batch)-1].Err, queue.ErrSoldOut)
		b.CheckUnits(3)
	})
}

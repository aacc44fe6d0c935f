package queue_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// The line's bound holds exactly, however many ask at once.
func TestAdmitStopsExactlyAtTheCap(t *testing.T) {
	const total, most = 5000, 1000
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		requests := make(chan queue.Request, total)
		for i := range total {
			requests <- queues.Ask(fmt.Sprint("order-", i), fmt.Sprint("user-", i))
		}
		close(requests)
		var mu sync.Mutex
		var full int
		var seqs []int64
		var gang sync.WaitGroup
		for range 32 {
			gang.Go(func() {
				for {
					batch := take(requests, 1+rand.IntN(queue.MaxAdmit))
					if len(batch) == 0 {
						return
					}
					admissions, err := b.Admit(b.Ctx, 1, queues.Rate, batch)
					mu.Lock()
					if err != nil {
						t.Error(err)
					}
					for _, a := range admissions {
						switch a.Err {
						case nil:
							seqs = append(seqs, a.Ticket.Seq)
						case queue.ErrFull:
							full++
						default:
							t.Error(a.Err)
						}
					}
					mu.Unlock()
				}
			})
		}
		gang.Wait()
		require.Equal(t, total-most, full)
		require.Len(t, seqs, most)
		slices.Sort(seqs)
		for i, seq := range seqs {
			require.EqualValues(t, i+1, seq)
		}
		require.Len(t, b.List("wait"), most)
		require.EqualValues(t, most, b.MustView().Waiting)
		b.CheckUnits(3)
	})
}

func take(from <-chan queue.Request, n int) []queue.Request {
	var batch []queue.Request
	for r := range from {
		if batch = append(batch, r); len(batch) == n {
			break
		}
	}
	return batch
}

// Whoever is admitted to a line that is stopped is told so, by the first answer and by its repetition.
func TestTheWaitInAStoppedLine(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		admit := func(stopped time.Duration) queue.Admission {
			result := b.Lines.Admit(b.Ctx, []queue.Ask{{Line: b.Line, Epoch: b.Epoch, Rate: queues.Rate,
				Stopped: stopped, Requests: []queue.Request{queues.Ask("order", "ann")}}})[0]
			require.NoError(t, result.Err)
			return result.Admissions[0]
		}
		first := admit(time.Minute)
		require.EqualValues(t, 61, first.Ticket.ETASeconds)
		again := admit(0)
		require.True(t, again.Replayed)
		require.Equal(t, first.Ticket, again.Ticket)
	})
}

func TestAdmitLimitsEachUser(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		two, four := queues.Ask("two", "ann"), queues.Ask("four", "bob")
		two.Units, four.Units = 2, 4
		answers := b.MustAdmit(queues.Ask("one", "ann"), two, queues.Ask("late", "ann"), four,
			queues.Ask("fine", "bob"))
		require.Equal(t, 1, answers[0].Ticket.Slot)
		require.Equal(t, 2, answers[1].Ticket.Slot)
		require.Equal(t, 2, answers[1].Ticket.Units)
		require.Equal(t, queue.LimitError{OrderID: "two"}, answers[2].Err)
		require.Equal(t, queue.LimitError{}, answers[3].Err)
		require.NoError(t, answers[4].Err)
		b.CheckUnits(3)

		// A freed slot is the next one taken: the database allows one live order in each.
		require.NoError(t, b.Cancel(b.Ctx, "one", "ann"))
		require.Equal(t, 1, b.MustAdmit(queues.Ask("again", "ann"))[0].Ticket.Slot)
		require.Equal(t, []string{"two", "again"}, b.held("ann"))
		require.Empty(t, b.held("nobody"))
		b.CheckUnits(3)
	})
}

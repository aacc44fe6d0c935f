package worker

import (
	"fmt"
	"testing"
	"time"

	"sluice/queue"

	"github.com/stretchr/testify/require"
)

// ended is the answer to one ticket.
func ended(ticket int, op queue.Op, code string) queue.Outcome {
	return queue.Outcome{ID: fmt.Sprint("t", ticket), Op: op, Code: code}
}

func TestWhatBefallsEveryTicketIsCommon(t *testing.T) {
	t.Parallel()
	f := newCommonFault(time.Now)
	learn := func(batch string, answers ...queue.Outcome) error { return f.learn(queue.Batch{ID: batch}, answers) }
	require.NoError(t, learn("b1", ended(1, queue.OpRetry, "x"), ended(2, queue.OpRetry, "x"),
		ended(3, queue.OpRetry, "x")), "one batch is no proof")
	require.True(t, f.possible(), "but enough to give nobody up")
	require.False(t, f.stands())
	require.ErrorContains(t, learn("b2", ended(1, queue.OpRetry, "x")), "alike: x")
	require.ErrorIs(t, learn("b3", ended(2, queue.OpRetry, "x")), ErrCommon)
	require.True(t, f.stands())
	require.NoError(t, learn("b4", ended(3, queue.OpFail, "")), "sold out: no proof of anything")
	require.True(t, f.stands())
	require.NoError(t, learn("b5", ended(1, queue.OpRetry, "x"), ended(4, queue.OpConfirm, "")))
	require.False(t, f.stands(), "one success ends it")
	require.False(t, f.possible())
	require.True(t, f.pardons(), "what was counted before it was known is pardoned")
}

func TestWhatBefallsOneTicketIsItsOwn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(i int) []queue.Outcome{
		"the same ticket": func(int) []queue.Outcome { return []queue.Outcome{ended(1, queue.OpRetry, "x")} },
		"two tickets":     func(i int) []queue.Outcome { return []queue.Outcome{ended(i%2, queue.OpRetry, "x")} },
		"another code": func(i int) []queue.Outcome {
			return []queue.Outcome{ended(i, queue.OpRetry,
				fmt.Sprint("x", i))}
		},
		"no code": func(i int) []queue.Outcome { return []queue.Outcome{ended(i, queue.OpRetry, "")} },
		"others succeed": func(i int) []queue.Outcome {
			return []queue.Outcome{ended(i, queue.OpRetry, "x"), ended(100+i, queue.OpConfirm, "")}
		},
		"a store's fault": func(i int) []queue.Outcome { return []queue.Outcome{ended(i, queue.OpBack, "")} },
	} {
		f := newCommonFault(time.Now)
		for i := range 50 {
			require.NoError(t, f.learn(queue.Batch{ID: fmt.Sprint("b", i)}, answer(i)), name)
		}
		require.LessOrEqual(t, len(f.tickets), commonTickets)
		require.LessOrEqual(t, len(f.batches), commonBatches)
	}
}

func TestWhatIsNotCountedGoesBack(t *testing.T) {
	t.Parallel()
	answers := []queue.Outcome{ended(1, queue.OpRetry, "x"), ended(2, queue.OpFail, ""),
		ended(3, queue.OpRetry, panicCode), ended(4, queue.OpConfirm, "")}
	uncounted(queue.Batch{Isolated: true}, answers)
	want := []queue.Outcome{{ID: "t1", Op: queue.OpBack, Join: true}, {ID: "t2", Op: queue.OpFail},
		{ID: "t3", Op: queue.OpBack}, {ID: "t4", Op: queue.OpConfirm}}
	require.Equal(t, want, answers)
}

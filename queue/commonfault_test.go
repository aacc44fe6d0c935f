package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ended is the answer to one ticket.
func ended(ticket int, op Op, code string) Outcome {
	return Outcome{ID: fmt.Sprint("t", ticket), Op: op, Code: code}
}

func TestWhatBefallsEveryTicketIsCommon(t *testing.T) {
	t.Parallel()
	f := newCommonFault(time.Now)
	learn := func(batch string, answers ...Outcome) error { return f.learn(Batch{ID: batch}, answers) }
	require.NoError(t, learn("b1", ended(1, OpRetry, "x"), ended(2, OpRetry, "x"), ended(3, OpRetry, "x")), "one batch is no proof")
	require.True(t, f.possible(), "but enough to give nobody up")
	require.False(t, f.stands())
	require.ErrorContains(t, learn("b2", ended(1, OpRetry, "x")), "alike: x")
	require.ErrorIs(t, learn("b3", ended(2, OpRetry, "x")), ErrCommon)
	require.True(t, f.stands())
	require.NoError(t, learn("b4", ended(3, OpFail, "")), "sold out: no proof of anything")
	require.True(t, f.stands())
	require.NoError(t, learn("b5", ended(1, OpRetry, "x"), ended(4, OpConfirm, "")))
	require.False(t, f.stands(), "one success ends it")
	require.False(t, f.possible())
	require.True(t, f.pardons(), "what was counted before it was known is pardoned")
}

func TestWhatBefallsOneTicketIsItsOwn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(i int) []Outcome{
		"the same ticket": func(int) []Outcome { return []Outcome{ended(1, OpRetry, "x")} },
		"two tickets":     func(i int) []Outcome { return []Outcome{ended(i%2, OpRetry, "x")} },
		"another code":    func(i int) []Outcome { return []Outcome{ended(i, OpRetry, fmt.Sprint("x", i))} },
		"no code":         func(i int) []Outcome { return []Outcome{ended(i, OpRetry, "")} },
		"others succeed": func(i int) []Outcome {
			return []Outcome{ended(i, OpRetry, "x"), ended(100+i, OpConfirm, "")}
		},
		"a store's fault": func(i int) []Outcome { return []Outcome{ended(i, OpBack, "")} },
	} {
		f := newCommonFault(time.Now)
		for i := range 50 {
			require.NoError(t, f.learn(Batch{ID: fmt.Sprint("b", i)}, answer(i)), name)
		}
		require.LessOrEqual(t, len(f.tickets), commonTickets)
		require.LessOrEqual(t, len(f.batches), commonBatches)
	}
}

func TestWhatIsNotCountedGoesBack(t *testing.T) {
	t.Parallel()
	answers := []Outcome{ended(1, OpRetry, "x"), ended(2, OpFail, ""), ended(3, OpRetry, panicCode), ended(4, OpConfirm, "")}
	uncounted(Batch{Suspects: true}, answers)
	want := []Outcome{{ID: "t1", Op: OpBack, Join: true}, {ID: "t2", Op: OpFail}, {ID: "t3", Op: OpBack}, {ID: "t4", Op: OpConfirm}}
	require.Equal(t, want, answers)
	require.Equal(t, "wait", answers[0].value(true))
	require.Equal(t, "suspect", answers[2].value(true))
}

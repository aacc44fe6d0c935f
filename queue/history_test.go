package queue

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

func TestStepsAreBoundedAndEnd(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			line := NewLines(rdb, DefaultPrefix).Of("noted")
			at := time.UnixMilli(1_700_000_000_000).UTC()
			for n := range keepSteps + 10 {
				require.NoError(t, line.NoteSteps(t.Context(), []Step{
					{OrderID: "a", At: at, Took: time.Second, Attempt: n, Instance: "w", What: "retried",
						Reason: "tab\there"},
				}))
			}
			steps, err := line.Steps(t.Context(), "a")
			require.NoError(t, err)
			require.Len(t, steps, keepSteps)
			require.Equal(t, Step{OrderID: "a", At: at, Took: time.Second, Attempt: keepSteps + 9, Instance: "w",
				What: "retried", Reason: "tab here"}, steps[keepSteps-1])
			left, err := rdb.PTTL(t.Context(), "sluice:{noted/0}:steps:a").Result()
			require.NoError(t, err)
			require.InDelta(t, float64(keepStepsFor), float64(left), float64(time.Minute),
				"attempt "+strconv.Itoa(steps[0].Attempt))
			none, err := line.Steps(t.Context(), "b")
			require.NoError(t, err)
			require.Empty(t, none)
		})
	}
}

func TestATicketThatJoinsGoesIntoTheLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "wait", Outcome{Op: OpBack, Join: true}.argument(true))
	require.Equal(t, "isolated", Outcome{Op: OpBack}.argument(true))
	require.Equal(t, "wait", Outcome{Op: OpBack}.argument(false))
}

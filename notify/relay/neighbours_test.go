package relay

import (
	"testing"
	"time"

	"sluice/internal/testkit/outbox"
	"sluice/notify"

	"github.com/stretchr/testify/require"
)

// panicking is a channel that panics wherever it can.
type panicking struct{ *outbox.Recorder }

func (panicking) Pause() time.Duration { panic("in the loop itself") }

// TestALoopThatPanicsEndsNoOther checks that a panic anywhere in a loop ends neither that loop nor another.
func TestALoopThatPanicsEndsNoOther(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "bad", 2)
		b.Insert(t, "good", 2)
		good := outbox.NewRecorder("good", outbox.Accept)
		run(t, b.relay(panicking{outbox.NewRecorder("bad", outbox.Accept)}, good))
		b.WaitFor(t, notify.StateDelivered, 2)
		require.Len(t, good.Messages(), 2)
		require.Len(t, b.Rows(t, notify.StatePending), 2)
	})
}

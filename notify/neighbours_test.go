package notify

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// panicking is a channel that panics wherever it can.
type panicking struct{ *recorder }

func (panicking) Pause() time.Duration { panic("in the loop itself") }

// TestALoopThatPanicsEndsNoOther checks that a panic anywhere in a loop ends neither that loop nor another.
func TestALoopThatPanicsEndsNoOther(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "bad", 2)
		b.insert(t, "good", 2)
		good := &recorder{name: "good", answer: accept}
		run(t, b.relay(panicking{&recorder{name: "bad", answer: accept}}, good))
		b.waitFor(t, StateDelivered, 2)
		require.Len(t, good.messages(), 2)
		require.Len(t, b.rows(t, StatePending), 2)
	})
}

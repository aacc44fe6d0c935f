package inventory

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

func TestFlowOverAWindow(t *testing.T) {
	t.Parallel()
	var m flowMeter
	require.Zero(t, m.now())
	start := time.Unix(1_800_000_000, 0)
	look := func(after time.Duration, seq, served int64) Flow {
		m.observe(queue.View{Exists: true, Now: start.Add(after), Seq: seq, Served: served})
		return m.now()
	}
	require.Zero(t, look(0, 100, 50))
	require.Equal(t, Flow{Admitted: 20, Drained: 10, Window: time.Second}, look(time.Second, 120, 60))
	for i := 2; i <= 9; i++ { // it stands still
		look(time.Duration(i)*time.Second, 120, 60)
	}
	require.Equal(t, Flow{Window: 5 * time.Second}, m.now(), "what is older than the window does not count")
	require.Equal(t, Flow{Drained: 2, Window: 5 * time.Second}, look(10*time.Second, 120, 70))
	require.Zero(t, look(11*time.Second, 3, 0), "another line has counters of its own")
	require.Equal(t, Flow{Admitted: 1, Window: 2 * time.Second}, look(13*time.Second, 5, 0))
	m.observe(queue.View{})
	require.Zero(t, m.now(), "there is no line")
}

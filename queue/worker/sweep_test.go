package worker_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
)

// Idle lines cost a worker next to nothing, however many there are.
func TestSweepAsksManyLinesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), queues.OpenSale())
	const lines = 400 // the last is asked in the fourth sweep, behind the one that is counted
	sales := []string{b.Sale()}
	var last *box
	for i := range lines - 1 {
		last = boxOn(t, b.Redis, fmt.Sprintf("idle-%03d", i), queues.OpenSale())
		sales = append(sales, last.Sale())
	}
	order := last.Enqueue(2) // nobody is there yet to hear of it
	count := &testkit.Trips{}
	b.Redis.AddHook(count)
	rounds := make(chan int64, 1000)
	consume(b, quick(), 2, &recorder{}, func() []string {
		rounds <- count.Rounds.Load()
		return sales
	})
	<-rounds
	second := <-rounds // the first sweep has loaded the script
	require.LessOrEqual(t, <-rounds-second, int64(5), "round trips of one sweep")
	last.drained()
	confirmedAll(last, order)
}

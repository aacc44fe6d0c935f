package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// begins notes that a fault begins; the returned function notes its end.
func (b *breaker) begins() func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := len(b.spans)
	b.spans = append(b.spans, window{from: time.Now()})
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.spans[at].to = time.Now()
		b.lastEnd = b.spans[at].to
	}
}

// silence returns the longest time between two accepted orders, one after the
// other, in which a fault began or went on. A fault that lasts longer than the
// system needs to get over it shows here and not in the recovery after it.
func silence(requests []*request, faults []window) time.Duration {
	var accepted []time.Time
	for _, r := range requests {
		for _, a := range r.placed() {
			if a.err == nil && a.reply.Status == http.StatusAccepted {
				accepted = append(accepted, a.got)
				break
			}
		}
	}
	slices.SortFunc(accepted, time.Time.Compare)
	longest := time.Duration(0)
	for i := 1; i < len(accepted); i++ {
		from, to := accepted[i-1], accepted[i]
		broken := slices.ContainsFunc(faults, func(f window) bool { return f.from.Before(to) && f.to.After(from) })
		if gap := to.Sub(from); broken && gap > longest {
			longest = gap
		}
	}
	return longest
}

func TestSilenceIsTheLongestGapWithinAFault(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var requests []*request
	for _, at := range []time.Duration{9, 0, 1, 4, 5} {
		got := now.Add(at * time.Second)
		requests = append(requests, &request{answers: []answer{{method: http.MethodPost, got: got,
			reply: reply{Status: http.StatusAccepted}}}})
	}
	fault := func(from, to time.Duration) window {
		return window{from: now.Add(from * time.Second), to: now.Add(to * time.Second)}
	}
	require.Zero(t, silence(requests, nil))
	require.Equal(t, 3*time.Second, silence(requests, []window{fault(2, 3)}))
	require.Equal(t, 4*time.Second, silence(requests, []window{fault(2, 3), fault(5, 20)}))
	require.Zero(t, silence(requests, []window{fault(10, 20)}), "nobody came through afterwards")
}

package model

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAReportThatSaysLessThanAllIsAnError(t *testing.T) {
	t.Parallel()
	const whole = "State-vector 92 byte, depth reached 9, errors: 0\n     1190 states, stored\n"
	for _, c := range []struct{ name, out, want string }{
		{"empty", "", "how many states"},
		{"too deep", "error: max search depth too small\n" + whole, "not complete"},
		{"out of memory", "pan: out of memory\n" + whole, "not complete"},
		{"interrupted", "Interrupted\n" + whole, "not complete"},
		{"another error", "State-vector 92 byte, errors: 1\n 1190 states, stored\n", "unknown kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.out)
			require.ErrorContains(t, err, c.want)
		})
	}
	r, err := read(whole)
	require.NoError(t, err)
	require.Equal(t, Result{States: 1190}, r)
	r, err = read("pan:1: assertion violated (a>b) (at depth 67)\nerrors: 1\n 12 states, stored\n")
	require.NoError(t, err)
	require.Equal(t, Result{States: 12, Violation: "assertion violated (a>b)"}, r)
}

func TestStepsAreRead(t *testing.T) {
	t.Parallel()
	s, err := parseStep("Claim 1 0 | verified=1 gate=0 epoch=2 stock=0 rec=1,4 at=3,1 | epoch=3 available=1 row=0,2\n")
	require.NoError(t, err)
	want := State{Verified: true, Epoch: 2, Record: [2]int{Queued, Cancelled}, Place: [2]int{Leased, Waiting},
		LedgerEpoch: 3, Available: 1, Row: [2]int{None, Failed}}
	require.Equal(t, Step{Name: "Claim", A: 1, B: 0, State: want}, s)
	_, err = parseStep("Claim one")
	require.ErrorContains(t, err, "Claim one")
}

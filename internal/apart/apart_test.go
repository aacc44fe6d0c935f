package apart_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/apart"
	"sluice/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// notes records the turns that began and their errors.
type notes struct {
	mu     sync.Mutex
	turns  map[string]int
	failed map[string]error
}

func newNotes() *notes { return &notes{turns: map[string]int{}, failed: map[string]error{}} }

func (n *notes) begun(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turns[key]++
}

func (n *notes) fail(key string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed[key] = err
}

func (n *notes) get(key string) (turns int, failed error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.turns[key], n.failed[key]
}

func TestATurnThatGoesWrongHarmsNoOther(t *testing.T) {
	t.Parallel()
	r, n := apart.New(2, 0), newNotes()
	turn := func(_ context.Context, key string) error {
		n.begun(key)
		switch key {
		case "fails":
			return errors.New("broken")
		case "panics":
			panic("thrown")
		}
		return nil
	}
	for range 3 {
		r.Round(t.Context(), []string{"fails", "panics", "well"}, turn, n.fail)
	}
	for _, key := range []string{"fails", "panics", "well"} {
		turns, _ := n.get(key)
		require.Equal(t, 3, turns, key)
	}
	_, err := n.get("fails")
	require.EqualError(t, err, "broken")
	_, err = n.get("panics")
	var thrown *apart.PanicError
	require.ErrorAs(t, err, &thrown)
	require.Equal(t, "thrown", thrown.Value)
	require.Contains(t, thrown.Stack, "apart_test.go")
	_, err = n.get("well")
	require.NoError(t, err)
}

// hanging returns a turn that hangs, for some keys, until release is closed or its context ends.
func (n *notes) hanging(release <-chan struct{}, hangs func(key string) bool) func(context.Context, string) error {
	return func(ctx context.Context, key string) error {
		n.begun(key)
		if hangs(key) {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
}

func TestATurnThatHangsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	r, n, release := apart.New(2, 10*time.Millisecond), newNotes(), make(chan struct{})
	keys := []string{"hangs", "well"}
	turn := n.hanging(release, func(key string) bool { return key == "hangs" })
	const rounds = 50
	for range rounds {
		r.Round(t.Context(), keys, turn, n.fail)
	}
	turns, _ := n.get("well")
	require.Equal(t, rounds, turns)
	turns, _ = n.get("hangs")
	require.Equal(t, 1, turns, "it has its turn still")
	close(release)
	require.Eventually(t, func() bool {
		r.Round(t.Context(), keys, turn, n.fail)
		turns, _ := n.get("hangs")
		return turns > 2
	}, 30*time.Second, time.Millisecond, "and others later")
	r.Wait()
}

// TestManyThatHangLeaveRoomForTheOthers checks that slow keys share few places and leave the others theirs.
func TestManyThatHangLeaveRoomForTheOthers(t *testing.T) {
	t.Parallel()
	r, n, release := apart.New(4, 10*time.Millisecond), newNotes(), make(chan struct{})
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprint("hangs-", i))
	}
	turn := n.hanging(release, func(key string) bool { return key != "well" })
	for _, key := range keys { // each is slow once
		r.Round(t.Context(), []string{key}, turn, n.fail)
		release <- struct{}{}
	}
	r.Wait()
	keys = append(keys, "well")
	for range 20 {
		r.Round(t.Context(), keys, turn, n.fail)
	}
	turns, _ := n.get("well")
	require.Equal(t, 20, turns)
	again := func() (sum int) {
		for _, key := range keys[:20] {
			turns, _ := n.get(key)
			sum += turns - 1
		}
		return sum
	}
	require.Eventually(t, func() bool { return again() > 0 }, 30*time.Second, time.Millisecond)
	require.LessOrEqual(t, again(), 1+2, "one of them has its turn, beside two that are late again")
	close(release)
	require.Eventually(t, func() bool {
		r.Round(t.Context(), keys, turn, n.fail)
		for _, key := range keys[:20] {
			if turns, _ := n.get(key); turns < 2 {
				return false
			}
		}
		return true
	}, 30*time.Second, time.Millisecond, "and then each of the others")
	r.Wait()
}

// TestWhatHangsAgainHoldsUpNoOtherThatWasSlow checks that a key that hangs again leaves its place to the next slow key.
// The time is synthetic.
func TestWhatHangsAgainHoldsUpNoOtherThatWasSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, n, release := apart.New(4, time.Second), newNotes(), make(chan struct{})
		keys := []string{"a", "b"}
		turn := n.hanging(release, func(string) bool { return true })
		r.Round(t.Context(), keys, turn, n.fail)
		time.Sleep(time.Second)
		close(release)
		r.Wait() // both were slow
		again := make(chan struct{})
		turn = n.hanging(again, func(key string) bool { return key == "a" })
		turned := func(key string) int { turns, _ := n.get(key); return turns }
		r.Round(t.Context(), keys[:1], turn, n.fail)
		synctest.Wait()
		require.Equal(t, 2, turned("a"))
		time.Sleep(time.Second)
		synctest.Wait()
		r.Round(t.Context(), keys, turn, n.fail)
		synctest.Wait()
		require.Equal(t, 2, turned("b"))
		close(again)
		r.Wait()
	})
}

// TestWhatWasSlowIsQuickAgainAfterAMinute checks that a slow key counts as quick after a minute of synthetic time.
func TestWhatWasSlowIsQuickAgainAfterAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, n, release := apart.New(4, time.Second), newNotes(), make(chan struct{})
		keys := []string{"a", "b", "c"}
		r.Round(t.Context(), keys, n.hanging(release, func(string) bool { return true }), n.fail)
		time.Sleep(time.Second)
		close(release)
		r.Wait()
		time.Sleep(time.Minute)
		hangs := make(chan struct{})
		r.Round(t.Context(), keys, n.hanging(hangs, func(string) bool { return true }), n.fail)
		synctest.Wait()
		for _, key := range keys {
			turns, _ := n.get(key)
			require.Equal(t, 2, turns, "all at once, though but one place is for slow ones")
		}
		close(hangs)
		r.Wait()
	})
}

// TestWhatHangsForTheFirstTimeGivesItsPlaceBack lets as many keys hang as there are places. Their places are then free
// again.
func TestWhatHangsForTheFirstTimeGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	r, n, release := apart.New(2, 10*time.Millisecond), newNotes(), make(chan struct{})
	keys := []string{"hangs-1", "hangs-2", "well-1", "well-2", "well-3"}
	turn := n.hanging(release, func(key string) bool { return key[0] == 'h' })
	require.Eventually(t, func() bool {
		r.Round(t.Context(), keys, turn, n.fail)
		turns, _ := n.get("well-3")
		return turns > 3
	}, 30*time.Second, time.Millisecond)
	turns, _ := n.get("hangs-1")
	require.Equal(t, 1, turns)
	close(release)
	r.Wait()
}

func TestARoundEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r, n := apart.New(1, 0), newNotes()
	ctx, cancel := context.WithCancel(t.Context())
	turn := n.hanging(nil, func(string) bool { return true })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Round(ctx, []string{"a", "b"}, turn, n.fail)
	}()
	require.Eventually(t, func() bool { turns, _ := n.get("a"); return turns == 1 }, 30*time.Second, time.Millisecond)
	cancel()
	<-ended
	r.Wait()
	turns, _ := n.get("b")
	require.LessOrEqual(t, turns, 1)
}

func TestWithoutAClusterAllIsOnOneServer(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	groups := apart.ByServer(t.Context(), rdb, []string{"b", "a"}, func(name string) string { return "{" + name + "}" })
	require.Equal(t, map[string][]string{"": {"b", "a"}}, groups)
}

package testkit

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leftPatience is how long goroutines may take to end after the last test.
const leftPatience = 10 * time.Second

// VerifyMain runs a package's tests, stops the database servers they shared,
// fails if a goroutine is left over, and exits. Call it from TestMain. What
// the tests of a package share otherwise is cleared up by after.
func VerifyMain(m *testing.M, after ...func() error) {
	os.Exit(verify(leftPatience, func() int {
		code := m.Run()
		for _, clear := range after {
			if err := clear(); err != nil {
				fmt.Fprintln(os.Stderr, "testkit:", err)
				code = max(code, 1)
			}
		}
		return code
	}))
}

// verify tolerates the goroutines that exist before the first test: importing
// ants starts two. Every later one must be gone, those of an ants pool as well.
func verify(patience time.Duration, run func() int) int {
	before := goleak.IgnoreCurrent()
	code := run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test explains the leak that it leaves
	}
	if err := findLeft(before, patience); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: goroutines left over after all tests:", err)
		return 1
	}
	return 0
}

// findLeft waits for goroutines that are about to end: net/http keeps a connection half a second after a hasty answer.
func findLeft(before goleak.Option, patience time.Duration) (err error) {
	for until := time.Now().Add(patience); ; {
		if err = goleak.Find(before); err == nil || time.Now().After(until) {
			return err
		}
	}
}

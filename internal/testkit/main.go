package testkit

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// VerifyMain runs a package's tests, stops the database servers they shared,
// fails if a goroutine is left over, and exits. Call it from TestMain. What
// the tests of a package share otherwise is cleared up by after.
func VerifyMain(m *testing.M, after ...func() error) {
	os.Exit(verify(func() int {
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
func verify(run func() int) int {
	before := goleak.IgnoreCurrent()
	code := run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test explains the leak that it leaves
	}
	if err := goleak.Find(before); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: goroutines left over after all tests:", err)
		return 1
	}
	return 0
}

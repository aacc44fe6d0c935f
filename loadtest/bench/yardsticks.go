package main

import (
	"context"
	"fmt"
	"os"

	"sluice/loadtest/bench/yardstick"
)

// yardsticks is this program as one of the processes that Sluice is compared with.
func yardsticks(_ context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "bare":
		return yardstick.Bare()
	case len(args) == 1 && args[0] == "static":
		return yardstick.Static()
	case len(args) == 2 && args[0] == "lua":
		return yardstick.Lua(args[1])
	}
	fmt.Fprintln(os.Stderr, "usage: bench yardstick bare | static | lua REDIS")
	return errUsage
}

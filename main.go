// Sluice sells a fixed stock to a crowd that arrives all at once. One binary
// plays every part; "sluice help" lists its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // a host may have no time zones of its own

	"sluice/cli"
)

// version is set at link time: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	ctx := untilSignal(func() { os.Exit(cli.ExitFailure) })
	os.Exit(cli.Run(ctx, cli.Process{Version: version, Args: os.Args[1:], Env: os.Environ(), Out: os.Stdout,
		Err: os.Stderr}))
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The
// second one calls abort: whoever repeats it does not want to wait.
func untilSignal(abort func()) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		abort()
	}()
	return ctx
}

package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/yardstick"
)

// yardsticks runs this program as one of the processes with which Sluice is compared.
func yardsticks(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{""}
	}
	var j yardstick.Job
	var redis, url string
	f := flag.NewFlagSet("yardstick", flag.ContinueOnError)
	f.StringVar(&redis, "redis", "", "host:port, for lua and asynq")
	f.StringVar(&url, "url", "", "receiver, for asynq-messages")
	f.StringVar(&j.Driver, "driver", "", "database, for sql")
	f.StringVar(&j.DSN, "dsn", "", "database, for sql and asynq")
	f.IntVar(&j.Orders, "orders", 0, "how many")
	f.IntVar(&j.Batch, "batch", 1, "orders in one transaction")
	f.IntVar(&j.Workers, "workers", 1, "transactions at the same time")
	if err := f.Parse(args[1:]); err != nil {
		return errUsage
	}
	j.Ready = func() { fmt.Println(lab.JobReady) }
	switch args[0] {
	case "bare":
		return yardstick.Bare()
	case "static":
		return yardstick.Static()
	case "lua":
		return yardstick.Lua(redis)
	case "sql":
		return took(j.Insert(ctx))
	case "asynq":
		j.Driver = "mysql"
		return took(j.Asynq(ctx, redis))
	case "asynq-messages":
		return took(j.AsynqMessages(ctx, redis, url))
	}
	fmt.Fprintln(os.Stderr, "usage: bench yardstick bare | static | lua | sql | asynq | asynq-messages")
	return errUsage
}

// took prints the result for the parent process.
func took(spent yardstick.Spent, err error) error {
	if err == nil {
		fmt.Println(spent.Took.Nanoseconds(), spent.CPU.Nanoseconds())
	}
	return err
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"sluice/internal/testkit/servers"
	"sluice/loadtest/bench/report"
)

// Messages lets asynq add messages and call a receiver for each, on an empty Redis. It measures messages/s and the CPU
// time of Redis and of asynq's process.
func (j Job) Messages(ctx context.Context, l *Lab, url string) (r report.Reading, err error) {
	redis, err := servers.Redis(ctx, "--auto-aof-rewrite-min-size", "512mb")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	clock := &storeClock{pids: map[string][]int{"redis": {redis.PID()}}}
	var complaints bytes.Buffer
	// #nosec G204 -- this very program
	cmd := exec.CommandContext(ctx, l.self, "yardstick", "asynq-messages", "--redis", redis.Addr(), "--url", url,
		"--orders", strconv.Itoa(j.Orders), "--workers", strconv.Itoa(j.Workers))
	cmd.Stdout, cmd.Stderr = clock, &complaints
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("yardstick asynq-messages: %w: %s", err, complaints.String())
	}
	var took, own time.Duration
	if _, err := fmt.Sscan(clock.said.String(), &took, &own); err != nil || clock.running == nil {
		return r, fmt.Errorf("yardstick asynq-messages printed %q: %w", clock.said.String(), err)
	}
	cpu := clock.running.Used()
	cpu["asynq"] = own
	return report.Reading{Value: float64(j.Orders) / took.Seconds(), Work: float64(j.Orders), CPU: cpu}, nil
}

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// Job says how a yardstick writes orders into a database.
type Job struct {
	Orders, Batch, Workers int
}

const jobPatience = 5 * time.Minute

// Run runs the job on an empty database with Sluice's tables. It measures orders/s and the CPU time of the stores and
// the writing process, from when that is ready. asynq also gets an empty Redis.
func (j Job) Run(ctx context.Context, l *Lab, kind, driver string) (r report.Reading, err error) {
	s, err := l.System(ctx, Setup{Driver: driver})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.migrate(ctx); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	orders := j.Orders / j.Batch * j.Batch
	args := []string{"yardstick", kind, "--dsn", s.DB.DSN, "--driver", driver, "--redis", s.Redis.Addr(), "--orders",
		strconv.Itoa(orders),
		"--batch", strconv.Itoa(j.Batch), "--workers", strconv.Itoa(j.Workers)}
	clock := &storeClock{pids: stores(kind, s)}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, l.self, args...) // #nosec G204 -- this very program
	cmd.Stdout, cmd.Stderr = clock, &complaints
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, complaints.String())
	}
	var took, own time.Duration
	if _, err := fmt.Sscan(clock.said.String(), &took, &own); err != nil {
		return r, fmt.Errorf("%s printed %q: %w", strings.Join(args[:2], " "), clock.said.String(), err)
	}
	if clock.running == nil {
		return r, fmt.Errorf("%s did not say when it was ready", strings.Join(args[:2], " "))
	}
	cpu := clock.running.Used()
	cpu["writers"] = own
	if err := s.DB.Holds(ctx, orders); err != nil {
		return r, fmt.Errorf("yardstick %s: %w", kind, err)
	}
	return report.Reading{Value: float64(orders) / took.Seconds(), Work: float64(orders), CPU: cpu}, nil
}

// JobReady is the line that a job prints when its clock starts; the result comes after it.
const JobReady = "ready"

// storeClock reads a job's output and starts to count the stores' CPU time when the job's clock starts.
type storeClock struct {
	pids    map[string][]int
	running *machine.CPUClock
	said    bytes.Buffer
}

func (c *storeClock) Write(p []byte) (int, error) {
	c.said.Write(p)
	if c.running == nil && bytes.HasPrefix(c.said.Bytes(), []byte(JobReady+"\n")) {
		c.running = machine.StartCPU(c.pids)
		c.said.Next(len(JobReady) + 1)
	}
	return len(p), nil
}

// stores returns the store processes that a job uses: Redis only for asynq.
func stores(kind string, s *System) map[string][]int {
	pids := s.PIDs()
	if kind != "asynq" {
		delete(pids, "redis")
	}
	return pids
}

// Holds returns an error unless the database has exactly n confirmed orders, one outbox row each, and their units
// taken.
func (d Database) Holds(ctx context.Context, n int) error {
	db, err := d.sql()
	if err != nil {
		return err
	}
	defer db.Close()
	var orders, events, units int
	for _, count := range []struct {
		into  *int
		query string
	}{
		{&orders, "SELECT COUNT(*) FROM orders WHERE status = 'confirmed'"},
		{&events, "SELECT COUNT(*) FROM outbox"},
		{&units, "SELECT SUM(total - available) FROM stock"},
	} {
		if err := db.QueryRowContext(ctx, count.query).Scan(count.into); err != nil {
			return fmt.Errorf("%s: %w", count.query, err)
		}
	}
	if orders != n || events != n || units != n {
		return Refuse("the database holds %d orders, %d outbox rows and %d units sold, want %d of each", orders, events,
			units, n)
	}
	return nil
}

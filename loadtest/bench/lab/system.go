package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"sluice/internal/testkit/servers"
)

// Setup is a Sluice with its stores. The stores are durable: Redis with appendfsync always, the database with a flush
// for each commit.
type Setup struct {
	Driver string   // of the database
	Env    []string // more of Sluice's configuration
}

// System is a running Setup.
type System struct {
	Lab   *Lab
	setup Setup
	Redis *servers.Server
	DB    Database
	Nodes []*Node
}

// Node is one process of Sluice.
type Node struct {
	*Process
	HTTP, Ops string    // host:port; HTTP is empty without the gateway role
	Work      string    // host:port for other systems; empty without the gateway role
	Since     time.Time // when its log says that it runs
}

// System starts empty stores. Redis is configured according to docs/operations.md.
func (l *Lab) System(ctx context.Context, setup Setup) (*System, error) {
	s := &System{Lab: l, setup: setup}
	var err error
	if s.Redis, err = servers.Redis(ctx, "--auto-aof-rewrite-min-size", "512mb"); err != nil {
		return nil, err
	}
	if s.DB, err = l.database(ctx, setup.Driver); err != nil {
		return nil, errors.Join(err, s.Redis.Close())
	}
	return s, nil
}

// env returns Sluice's whole configuration, with everything on that a shop would have on. The limits are high, but
// every request passes them.
func (s *System) env() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Lab.Dir,
		"SLUICE_HTTP__ADDR=127.0.0.1:0", "SLUICE_OPS__ADDR=127.0.0.1:0",
		"SLUICE_AUTH__MODE=jwt", "SLUICE_AUTH__SECRET=" + secret,
		"SLUICE_REDIS__MODE=single", "SLUICE_REDIS__ADDRS=" + s.Redis.Addr(), "SLUICE_REDIS__DURABILITY=always",
		"SLUICE_DATABASE__DRIVER=" + s.DB.Driver, "SLUICE_DATABASE__DSN=" + s.DB.DSN,
		"SLUICE_LIMITS__GLOBAL_RPS=1000000", "SLUICE_LIMITS__PER_USER_RPS=1000", "SLUICE_LIMITS__PER_IP_RPS=1000",
	}, s.setup.Env...)
}

// Serve starts a process of Sluice in some roles.
func (s *System) Serve(ctx context.Context, roles string, env ...string) (*Node, error) {
	cmd := exec.Command(s.Lab.sluice, "serve", "--role", roles) // #nosec G204 -- the binary built for this run
	cmd.Env = append(s.env(), env...)
	n := &Node{}
	var err error
	n.Process, err = s.Lab.start(ctx, cmd, func(line string) bool {
		var said struct {
			Time                 time.Time
			Msg, HTTP, Ops, Work string
		}
		if json.Unmarshal([]byte(line), &said) != nil || said.Msg != "sluice is running" {
			return false
		}
		n.HTTP, n.Ops, n.Work, n.Since = said.HTTP, said.Ops, said.Work, said.Time
		return true
	})
	if err != nil {
		return nil, err
	}
	s.Nodes = append(s.Nodes, n)
	return n, nil
}

// migrate creates the tables of the database.
func (s *System) migrate(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.Lab.sluice, "migrate", "up") // #nosec G204 -- the binary built for this run
	cmd.Env = s.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sluice migrate up: %w: %s", err, out)
	}
	return nil
}

// PIDs returns the processes whose CPU time an order costs.
func (s *System) PIDs() map[string][]int {
	pids := map[string][]int{"redis": {s.Redis.PID()}}
	for _, n := range s.Nodes {
		pids["sluice"] = append(pids["sluice"], n.PID())
	}
	if s.DB.server != nil {
		pids[s.DB.label()] = []int{s.DB.server.PID()}
	}
	return pids
}

// Retire stops one node in good order.
func (s *System) Retire(n *Node) error {
	s.Nodes = slices.DeleteFunc(s.Nodes, func(other *Node) bool { return other == n })
	return n.Stop()
}

// Finish ends a measurement: it returns an error unless the audit is clean and every node stops in good order.
func (s *System) Finish(ctx context.Context) error {
	err := s.audit(ctx)
	for len(s.Nodes) > 0 {
		err = errors.Join(err, s.Retire(s.Nodes[0]))
	}
	return errors.Join(err, s.Close())
}

// Close ends everything that still runs.
func (s *System) Close() error {
	for _, n := range s.Nodes {
		n.kill()
	}
	s.Nodes = nil
	return errors.Join(s.Redis.Close(), s.DB.drop())
}

// audit returns an error unless the first node's audit is clean.
func (s *System) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var result struct {
		Verdict  string
		Problems []string
		Sales    []struct {
			Sale, Verdict string
			Problems      []string
		}
	}
	if err := s.Nodes[0].Admin(ctx, "GET", "/audit", nil, &result); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if result.Verdict == "clean" {
		return nil
	}
	bad := result.Problems
	for _, sale := range result.Sales {
		if sale.Verdict != "clean" {
			bad = append(bad, sale.Sale+": "+strings.Join(sale.Problems, ", "))
		}
	}
	return Refuse("the audit is not clean but %s: %s", result.Verdict, strings.Join(bad, "; "))
}

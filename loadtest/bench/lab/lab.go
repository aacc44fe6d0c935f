// Package lab runs Sluice with private stores, sends load to it and refuses invalid measurements.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sluice/internal/testkit/servers"
	"sluice/loadtest/bench/machine"
)

// Options says how long and how often to measure.
type Options struct {
	Rounds  int
	Length  time.Duration // of one measurement with wrk
	Threads int           // of wrk
	Scale   float64       // factor for the numbers of orders; the targets are for 1
	Verbose bool          // print values before the run is known to be valid
}

// Scaled returns n scaled, so fewer orders for a quick run.
func (o Options) Scaled(n int) int { return int(float64(n) * o.Scale) }

// PerRun returns a bound on the requests of one run with wrk.
func (o Options) PerRun() int { return int((o.Length+warmUp).Seconds()*140_000) + 10_000 }

// warmUp is the length of the warm-up before each measurement with wrk.
const warmUp = time.Second

// Lab has what the figures share: programs, database servers and a temporary folder.
type Lab struct {
	Opt     Options
	Dir     string
	sluice  string // the measured binary
	Commit  string // of its source
	self    string // this program, for the yardsticks
	Log     io.Writer
	servers map[string]*servers.Server // by driver
	files   map[string]Requests        // by sale
	made    int

	Neighbours machine.Neighbours
}

// NewLab builds Sluice from the folder source, as "make build" does.
func NewLab(ctx context.Context, opt Options, source string, log io.Writer) (*Lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Opt: opt, Dir: dir, self: self, Log: log, sluice: filepath.Join(dir, "sluice"),
		servers: map[string]*servers.Server{}, files: map[string]Requests{}}
	// PostgreSQL does not run as root and must pass through.
	// #nosec G302 -- the databases run as other users and must pass through
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	// #nosec G204 -- into a folder of our own
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o",
		l.sluice, ".")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build Sluice in %s: %w\n%s", source, err, out), l.Close())
	}
	l.Commit = machine.Commit(source)
	l.Neighbours = machine.WatchNeighbours()
	return l, nil
}

// folder creates a folder that is removed with the lab.
func (l *Lab) folder(name string) (string, error) { return os.MkdirTemp(l.Dir, name+"-") }

// Close stops the database servers and removes everything.
func (l *Lab) Close() error {
	var errs []error
	for _, s := range l.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.Dir))...)
}

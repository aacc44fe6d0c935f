package lab

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// Rival is a running yardstick that answers HTTP.
type Rival struct {
	*Process
	lab  *Lab
	Addr string
	PIDs map[string][]int // processes processes whose CPU time a request costs
}

// Rival starts a yardstick of this program as a process.
func (l *Lab) Rival(ctx context.Context, args ...string) (*Rival, error) {
	cmd := exec.Command(l.self, append([]string{"yardstick"}, args...)...) // #nosec G204 -- this very program
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.Dir}
	r := &Rival{lab: l}
	var err error
	r.Process, err = l.start(ctx, cmd, func(line string) bool {
		var found bool
		r.Addr, found = strings.CutPrefix(line, "listening ")
		return found
	})
	if err == nil {
		r.PIDs = map[string][]int{"gin": {r.PID()}}
	}
	return r, err
}

// Measured drives the yardstick with wrk, after a warm-up.
func (r *Rival) Measured(ctx context.Context, load Load, status int) (Drive, map[string]time.Duration, error) {
	load.Addr = r.Addr
	if _, err := r.lab.warm(ctx, &load); err != nil {
		return Drive{}, nil, err
	}
	clock := machine.StartCPU(r.PIDs)
	d, err := r.lab.Wrk(ctx, load)
	if err != nil {
		return d, nil, err
	}
	cpu := clock.Used()
	return d, cpu, d.Check(status, machine.Sum(cpu))
}

// Reading returns the reading of a run: its rate and CPU times.
func Reading(d Drive, cpu map[string]time.Duration) report.Reading {
	return report.Reading{Value: d.Rate(), Work: float64(d.Requests), CPU: cpu}
}

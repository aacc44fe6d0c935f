package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Rival is a running yardstick that answers HTTP.
type Rival struct {
	*Process
	lab  *Lab
	addr string
	pids map[string][]int // whose CPU time a request costs
}

// rival starts a yardstick of this program, as a process of its own.
func (l *Lab) rival(ctx context.Context, args ...string) (*Rival, error) {
	cmd := exec.Command(l.self, append([]string{"yardstick"}, args...)...) // #nosec G204 -- this very program
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.dir}
	r := &Rival{lab: l}
	var err error
	r.Process, err = l.start(ctx, cmd, func(line string) bool {
		var found bool
		r.addr, found = strings.CutPrefix(line, "listening ")
		return found
	})
	if err == nil {
		r.pids = map[string][]int{"gin": {r.pid()}}
	}
	return r, err
}

// measured drives the yardstick with wrk, after a warm-up.
func (r *Rival) measured(ctx context.Context, load Load, status int) (Drive, map[string]time.Duration, error) {
	load.Addr = r.addr
	if _, err := r.lab.warm(ctx, &load); err != nil {
		return Drive{}, nil, err
	}
	clock := startCPU(r.pids)
	d, err := r.lab.wrk(ctx, load)
	if err != nil {
		return d, nil, err
	}
	cpu := clock.used()
	return d, cpu, d.check(status, sum(cpu))
}

// reading is a rate and what it cost.
func reading(d Drive, cpu map[string]time.Duration) Reading {
	return Reading{Value: d.Rate(), Work: float64(d.Requests), CPU: cpu}
}

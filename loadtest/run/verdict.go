package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// verdict is the result of one run.
type verdict struct {
	began   time.Time
	machine string
	results []result
	audit   audit
	broken  []string // problems that no scenario reports
	report  string   // path of the page with plots
}

// addRun adds the problems of the whole run: those of the audit, and of the process' end.
func (v *verdict) addRun(a audit, stopped error) {
	v.audit = a
	v.broken = append(v.broken, a.problems()...)
	if stopped != nil {
		v.broken = append(v.broken, stopped.Error())
	}
}

func (v *verdict) passed() bool { return len(v.allBroken()) == 0 }

// allBroken returns all problems, with the scenario in front.
func (v *verdict) allBroken() []string {
	var all []string
	for _, r := range v.results {
		for _, line := range r.Broken {
			all = append(all, r.Scenario+": "+line)
		}
	}
	return append(all, v.broken...)
}

// describe describes the measured system and the tools.
func describe(ctx context.Context, opt options, s *system) string {
	k6 := "k6"
	// #nosec G204 -- the k6 that was asked for
	if text, err := exec.CommandContext(ctx, opt.k6, "version").Output(); err == nil {
		k6, _, _ = strings.Cut(strings.TrimSpace(string(text)), " (")
	}
	durability := "appendfsync " + s.said.Durability
	if s.said.Redis == "embedded" {
		durability = "in memory: no redis-server is installed, accepted orders die with the process"
	}
	return fmt.Sprintf("redis %s (%s), %s, %s on the same %d CPUs (%s/%s)", s.said.Redis, durability, s.said.Database,
		k6,
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}

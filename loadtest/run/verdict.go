package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// verdict is everything one run found out.
type verdict struct {
	began   time.Time
	machine string
	results []result
	audit   audit
	broken  []string // beyond what a scenario says itself
	report  string   // where the page with plots is
}

// judge adds what the whole run shows: the audit over all sales, and how the process ended.
func (v *verdict) judge(a audit, stopped error) {
	v.audit = a
	v.broken = append(v.broken, a.problems()...)
	if stopped != nil {
		v.broken = append(v.broken, stopped.Error())
	}
}

func (v *verdict) passed() bool { return len(v.allBroken()) == 0 }

// allBroken is everything that broke, with the scenario in front.
func (v *verdict) allBroken() []string {
	var all []string
	for _, r := range v.results {
		for _, line := range r.Broken {
			all = append(all, r.Scenario+": "+line)
		}
	}
	return append(all, v.broken...)
}

// describe says what was measured with what.
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

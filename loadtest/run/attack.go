package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// attackWithin bounds one scenario.
const attackWithin = 15 * time.Minute

// scenario is one k6 script with its default environment.
type scenario struct {
	name, script, about string
	env                 map[string]string
}

// plan returns the scenarios of a run.
func plan(short bool) []scenario {
	smoke := scenario{"smoke", "smoke.js", "300 shoppers, 100 units", nil}
	clicks := scenario{"double clicks", "double_clicks.js",
		"300 shoppers click five times at once, winners once more, 200 units", nil}
	if short {
		bell := map[string]string{"PEAK": "300", "HOLD": "26", "STOCK": "1000", "DROPPED": "0.1"}
		return []scenario{smoke, clicks, {"opening bell", "opening_bell.js",
			"0 to 300 shoppers a second in 3 s, 30 s in all, 1,000 units", bell}}
	}
	bell := map[string]string{"PEAK": "500", "HOLD": "20", "STOCK": "2000"}
	return []scenario{
		smoke,
		{"opening bell", "opening_bell.js", "0 to 500 shoppers a second in 3 s, then 20 s more, 2,000 units", bell},
		clicks,
		{"whole journey", "whole_journey.js", "30 shoppers a second for 10 s: order, place, confirmation, payment",
			nil},
	}
}

// trend is a latency in ms: med, p(90), p(95), p(99), p(99.9), max, count.
type trend map[string]float64

// result is the summary that the script wrote, with the samples taken meanwhile.
type result struct {
	Scenario   string           `json:"scenario"`
	Seconds    float64          `json:"seconds"`
	Facts      map[string]any   `json:"facts"`
	Requests   int64            `json:"requests"`
	Admitted   int64            `json:"admitted"`
	Replayed   int64            `json:"replayed"`
	Refused    map[string]int64 `json:"refused"`
	Ended      map[string]int64 `json:"ended"`
	Dropped    int64            `json:"dropped"`
	Latency    map[string]trend `json:"latency_ms"`
	Confirmed  trend            `json:"confirmed_ms"`
	PlaceError trend            `json:"place_error_ms"`
	Broken     []string         `json:"broken"`

	samples []sample
}

// attack runs one scenario and samples the system meanwhile. An error means that k6 could not be run.
func (s *system) attack(ctx context.Context, opt options, one scenario) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, attackWithin)
	defer cancel()
	name := strings.TrimSuffix(one.script, ".js")
	summary, log := filepath.Join(opt.dir, name+".json"), filepath.Join(opt.dir, name+".log")
	for _, old := range []string{summary, log} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return result{}, err
		}
	}
	// #nosec G204 -- the chosen k6
	cmd := exec.CommandContext(ctx, opt.k6, "run", "--quiet", "--no-usage-report", "--address", "127.0.0.1:0",
		"--log-format", "json", "--log-output", "file="+log,
		filepath.Join(opt.scripts, one.script))
	cmd.Env = s.attackEnv(one, summary)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second

	w := watch(ctx, "http://"+s.said.Ops+"/metrics")
	text, err := cmd.CombinedOutput()
	samples := w.stop()
	if ctx.Err() != nil {
		return result{}, fmt.Errorf("%s: %w", one.name, ctx.Err())
	}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return result{}, fmt.Errorf("run %s: %w", opt.k6, err)
	}
	r, readErr := readResult(summary)
	if readErr != nil {
		return result{}, fmt.Errorf("%s: %w\n%s", one.name, readErr, text)
	}
	said, logErr := complaints(log)
	r.Broken = slices.Concat(said, r.Broken)
	if err != nil && len(r.Broken) == 0 {
		r.Broken = []string{fmt.Sprintf("k6 ended with %v, see %s", err, log)}
	}
	r.Scenario, r.samples = one.name, samples
	return r, logErr
}

func (s *system) attackEnv(one scenario, summary string) []string {
	env := os.Environ()
	for name, value := range one.env {
		if os.Getenv(name) == "" {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "BASE_URL=http://"+s.said.HTTP, "OPS_URL=http://"+s.said.Ops, "SLUICE_AUTH__SECRET="+s.secret,
		"PAYMENT_SECRET="+s.paymentSecret, "SUMMARY="+summary, "SALE=", "TOKENS=", "ADMIN_TOKEN=", "AUDIT=")
}

func readResult(path string) (result, error) {
	var r result
	text, err := os.ReadFile(path) // #nosec G304 -- a file of this run
	if err != nil {
		return r, fmt.Errorf("the scenario left no summary: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

const maxComplaints = 5

// complaints returns the different errors in a k6 log: broken rules, or why the scripts could not run.
func complaints(path string) ([]string, error) {
	file, err := os.Open(path) // #nosec G304 -- a file of this run
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // nothing was logged
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []string
	more := 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Level != "error" ||
			strings.HasPrefix(line.Msg, "thresholds on metrics") {
			continue
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(line.Msg, "broken: "), "\n")
		switch {
		case slices.Contains(all, text):
		case len(all) == maxComplaints:
			more++
		default:
			all = append(all, text)
		}
	}
	if more > 0 {
		all = append(all, fmt.Sprintf("and %d more, see %s", more, path))
	}
	return all, lines.Err()
}

package lab

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

//go:embed wrk.lua
var wrkScript []byte

// Load is one run of wrk.
type Load struct {
	Addr        string
	Connections int
	Length      time.Duration
	Requests    Requests
	First       int  // index of the first request to send
	Again       bool // start again after the last request
}

// Drive is wrk's result. Refused answers have a status of 400 or more.
type Drive struct {
	Requests int64   `json:"requests"`
	Micros   int64   `json:"duration"`
	Refused  int64   `json:"refused"`
	Broken   int64   `json:"broken"`
	RanOut   int64   `json:"ran_out"`
	P50      float64 `json:"p50"` // µs
	P99      float64 `json:"p99"` // µs
	CPU      time.Duration
	Busy     float64 // share of its threads' time that wrk was running, 0 to 1
}

// Rate returns the answers per second.
func (d Drive) Rate() float64 { return float64(d.Requests) / (float64(d.Micros) / 1e6) }

// Wrk sends requests as fast as answers come, for the load's length.
func (l *Lab) Wrk(ctx context.Context, load Load) (Drive, error) {
	script := filepath.Join(l.Dir, "wrk.lua")
	// #nosec G306 -- a script without secrets
	if err := os.WriteFile(script, wrkScript, 0o644); err != nil {
		return Drive{}, err
	}
	threads := min(l.Opt.Threads, load.Connections)
	seconds := max(1, int(load.Length.Round(time.Second)/time.Second))
	args := []string{"-t", strconv.Itoa(threads), "-c", strconv.Itoa(load.Connections), "-d",
		strconv.Itoa(seconds) + "s", "-s", script,
		"http://" + load.Addr, "--", load.Requests.File, strconv.Itoa(load.Requests.Size),
		strconv.Itoa(load.First), strconv.Itoa(load.Requests.Count - load.First)}
	if load.Again {
		args = append(args, "again")
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "wrk", args...) // #nosec G204 -- arguments written here
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return Drive{}, fmt.Errorf("wrk %v: %w; it said:\n%s", args, err, out.String())
	}
	took := time.Since(began)
	d, err := parseDrive(out.Bytes())
	if err != nil {
		return d, err
	}
	d.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	d.Busy = d.CPU.Seconds() / (took.Seconds() * float64(threads))
	return d, nil
}

func parseDrive(out []byte) (Drive, error) {
	for line := range bytes.Lines(out) {
		if text, ok := bytes.CutPrefix(line, []byte("bench ")); ok {
			var d Drive
			if err := json.Unmarshal(text, &d); err != nil {
				return d, fmt.Errorf("wrk's summary %q: %w", text, err)
			}
			return d, nil
		}
	}
	return Drive{}, fmt.Errorf("wrk printed no summary; it said:\n%s", out)
}

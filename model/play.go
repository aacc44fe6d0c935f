package model

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// stepMark begins the lines that line.pml prints, one a step.
const stepMark = "STEP "

// The states of an order's record in the line, as numbered in line.pml.
const (
	None = iota
	Queued
	Confirmed
	Ended
	Cancelled
	Held
)

// The lists of a line, as numbered in line.pml.
const (
	Out = iota
	Waiting
	Suspect
	Leased
)

// The states of an order in the ledger besides None, as numbered in line.pml.
const (
	Live = 1 + iota
	Failed
	Returned
	Released
)

// The results of a transaction without a row, as numbered in line.pml.
const (
	Stale = 5
	Close = 6
)

// State is the state of both stores after a step, with orders by ticket.
type State struct {
	Verified, Gated bool // the line is open on the server where it was compared; it is being rebuilt
	Epoch, Stock    int  // of the line
	Record, Place   [2]int
	LedgerEpoch     int
	Available       int
	Row             [2]int
}

// Step is one step of a simulation: its name, the numbers of its actors, and the state after it.
type Step struct {
	Name string
	A, B int
	State
}

// String returns the step as line.pml printed it.
func (s Step) String() string { return fmt.Sprintf("%-14s %d %d → %+v", s.Name, s.A, s.B, s.State) }

// Simulate runs the model with two tickets at random. The same seed and bounds give the same steps. It runs at most
// moves statements, most of which are no steps. A violated invariant is an error.
func Simulate(ctx context.Context, seed int64, moves int, defines string) ([]Step, error) {
	dir, err := os.MkdirTemp("", "sluice-model-")
	if err != nil {
		return nil, fmt.Errorf("simulate seed %d: %w", seed, err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, file), source, 0o600); err != nil {
		return nil, fmt.Errorf("simulate seed %d: %w", seed, err)
	}
	args := append(strings.Fields(defines), "-DT=2", "-DPLAY", "-T", "-n"+strconv.FormatInt(seed, 10),
		"-u"+strconv.Itoa(moves), file)
	out, err := command(ctx, dir, "spin", args...)
	if err != nil {
		return nil, fmt.Errorf("simulate seed %d: %w", seed, err)
	}
	var steps []Step
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, stepMark) {
			continue
		}
		step, err := parseStep(strings.TrimPrefix(line, stepMark))
		if err != nil {
			return nil, fmt.Errorf("simulate seed %d: %w", seed, err)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// parseStep parses a line that line.pml printed.
func parseStep(line string) (Step, error) {
	var s Step
	var verified, gated int
	const form = "%s %d %d | verified=%d gate=%d epoch=%d stock=%d rec=%d,%d at=%d,%d | epoch=%d available=%d row=%d,%d"
	_, err := fmt.Sscanf(line, form,
		&s.Name, &s.A, &s.B, &verified, &gated, &s.Epoch, &s.Stock, &s.Record[0], &s.Record[1], &s.Place[0],
		&s.Place[1],
		&s.LedgerEpoch, &s.Available, &s.Row[0], &s.Row[1])
	if err != nil {
		return s, fmt.Errorf("read step %q: %w", strings.TrimSpace(line), err)
	}
	s.Verified, s.Gated = verified == 1, gated == 1
	return s, nil
}

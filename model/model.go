// Package model checks line.pml, a model of one sale's line and ledger, and reads its simulations.
//
// The checker is spin, which turns the model into a C program that visits every state. Both spin and a C compiler must
// be installed.
package model

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed line.pml
var source []byte

const file = "line.pml"

// Instance is the model with bounds, with or without a planted fault.
type Instance struct {
	Name    string
	Says    string // a short description
	Defines string // the bounds as spin takes them, "-DT=2 -DF=1"
	Broken  bool   // a fault is planted: the checker must find a violation
}

// Result is the checker's result for an instance.
type Result struct {
	States    int64         // different states that were reached
	Took      time.Duration // generating, compiling and checking
	Violation string        // the assertion that failed; "" for none
	Steps     []string      // to the violation, with the state after each
}

// Expect returns an error if r is not the expected result of the instance.
func (i Instance) Expect(r Result) error {
	switch {
	case i.Broken && r.Violation == "":
		return fmt.Errorf("%s: the planted fault was not found: an invariant is missing", i.Name)
	case !i.Broken && r.Violation != "":
		return fmt.Errorf("%s: %s, after\n    %s", i.Name, r.Violation, strings.Join(r.Steps, "\n    "))
	}
	return nil
}

// Check visits every state of an instance, or all up to the first violation. An error means that it could not.
func Check(ctx context.Context, i Instance) (Result, error) {
	started := time.Now()
	dir, err := os.MkdirTemp("", "sluice-model-")
	if err != nil {
		return Result{}, fmt.Errorf("check %s: %w", i.Name, err)
	}
	defer os.RemoveAll(dir)
	if err := generate(ctx, dir, i); err != nil {
		return Result{}, fmt.Errorf("check %s: %w", i.Name, err)
	}
	out, err := command(ctx, dir, "./pan", "-E", "-w24", "-m1000000")
	if err != nil {
		return Result{}, fmt.Errorf("check %s: %w", i.Name, err)
	}
	result, err := read(out)
	if err == nil && result.Violation != "" {
		result.Steps, err = trail(ctx, dir, i)
	}
	if err != nil {
		return Result{}, fmt.Errorf("check %s: %w", i.Name, err)
	}
	result.Took = time.Since(started)
	return result, nil
}

// generate builds the checker of an instance in dir.
func generate(ctx context.Context, dir string, i Instance) error {
	if err := os.WriteFile(filepath.Join(dir, file), source, 0o600); err != nil {
		return err
	}
	if _, err := command(ctx, dir, "spin", append(strings.Fields(i.Defines), "-a", file)...); err != nil {
		return err
	}
	flags := []string{"-w", "-O2", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=3000", "-o", "pan", "pan.c"}
	if i.Broken {
		flags = append([]string{"-DBFS"}, flags...) // breadth first finds the shortest way to a violation
	}
	_, err := command(ctx, dir, "gcc", flags...)
	return err
}

// trail replays the steps to a violation and returns them.
func trail(ctx context.Context, dir string, i Instance) ([]string, error) {
	// A replay that ends at the violation exits with 1.
	out, err := command(ctx, dir, "spin", append(strings.Fields(i.Defines), "-t", file)...)
	var steps []string
	for line := range strings.Lines(out) {
		if step := strings.TrimSpace(line); strings.HasPrefix(step, stepMark) {
			steps = append(steps, strings.TrimPrefix(step, stepMark))
		}
	}
	if len(steps) == 0 {
		return nil, err
	}
	return steps, nil
}

// The lines of a checker's report that matter.
var (
	statesLine    = regexp.MustCompile(`(?m)^\s*(\d+) states, stored`)
	violationLine = regexp.MustCompile(`(?m)^pan:1: (.*) \(at depth`)
	incomplete    = regexp.MustCompile(`(?mi)^.*(depth too small|out of memory|not completed|interrupted).*$`)
)

// read reads the checker's report. A search that stopped early for any reason but a violation is an error.
func read(out string) (Result, error) {
	var r Result
	found := statesLine.FindStringSubmatch(out)
	if found == nil {
		return r, fmt.Errorf("the checker did not say how many states it saw:\n%s", out)
	}
	var err error
	if r.States, err = strconv.ParseInt(found[1], 10, 64); err != nil {
		return r, fmt.Errorf("count of states: %w", err)
	}
	if violated := violationLine.FindStringSubmatch(out); violated != nil {
		r.Violation = violated[1]
		return r, nil
	}
	if early := incomplete.FindString(out); early != "" {
		return r, fmt.Errorf("the search was not complete: %s", strings.TrimSpace(early))
	}
	if !strings.Contains(out, "errors: 0") {
		return r, fmt.Errorf("the checker found errors of an unknown kind:\n%s", out)
	}
	return r, nil
}

// command runs a program in dir and returns what it printed.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) // #nosec G204 -- spin, gcc and the checker they make
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: on Debian or Ubuntu, as root: apt-get install spin gcc libc6-dev", err)
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", name, err, tail(out.String()))
	}
	return out.String(), nil
}

// tail returns the end of a long text.
func tail(text string) string {
	const most = 2000
	if len(text) <= most {
		return text
	}
	return "… " + text[len(text)-most:]
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// auditWithin bounds a call of the command line.
const auditWithin = time.Minute

// audit is the output of "sluice audit --json" for all sales.
type audit struct {
	Verdict  string   `json:"verdict"` // clean, different or unknown
	Problems []string `json:"problems"`
	Sales    []struct {
		Sale     string   `json:"sale"`
		Total    int64    `json:"total"`
		Live     int64    `json:"live"`
		Problems []string `json:"problems"`
	} `json:"sales"`
	err error // why why it could not be made
}

// audit runs the audit with the command line, as an operator would.
func (s *system) audit(ctx context.Context) audit {
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	var a audit
	cmd := s.command(ctx, "audit", "--json", "--ops", "http://"+s.said.Ops)
	text, err := cmd.Output() // exit codes 1 and 3 are a difference and a failed audit, which the text explains
	if json.Unmarshal(text, &a) != nil {
		a.err = fmt.Errorf("the audwhy why it could not be made: %w: %s", err, stderrOf(err))
	}
	return a
}

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}

// problems returns one sentence for each problem.
func (a audit) problems() []string {
	if a.err != nil {
		return []string{a.err.Error()}
	}
	var all []string
	for _, sale := range a.Sales {
		if sale.Live > sale.Total {
			all = append(all, fmt.Sprintf("oversold: %s sold %d units of %d", sale.Sale, sale.Live, sale.Total))
		}
		for _, problem := range sale.Problems {
			all = append(all, fmt.Sprintf("audit of %s: %s", sale.Sale, problem))
		}
	}
	for _, problem := range a.Problems {
		all = append(all, "audit: "+problem)
	}
	if a.Verdict != "clean" && len(all) == 0 {
		all = append(all, "the audit's verdict is "+a.Verdict)
	}
	return all
}

// sold returns the units sold over all sales.
func (a audit) sold() (live, total int64) {
	for _, sale := range a.Sales {
		live += sale.Live
		total += sale.Total
	}
	return live, total
}

package lab

import (
	"fmt"
	"time"
)

// Refusal says why a measurement is invalid. After any refusal no table is printed.
type Refusal struct{ Why string }

func (r *Refusal) Error() string { return "refused: " + r.Why }

// Refuse returns a Refusal with a formatted reason.
func Refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Above either of these, the generator is the bottleneck.
const (
	mostBusy  = 0.95 // share of its threads' time that it may spend running
	mostShare = 0.50 // share of the CPU time that it and the measured processes spend together
)

// Expected is the answer that every request of a run must get.
type Expected struct {
	Route  string // the route in the gateway's metrics
	Status int
	Code   string // of the refusal; empty for an accepted order or a poll
}

// Check refuses a run with unexpected answers, or in which wrk was the bottleneck. served is the CPU time of the
// measured processes.
func (d Drive) Check(status int, served time.Duration) error {
	switch {
	case d.Broken > 0:
		return Refuse("%d requests were cut off or not answered in time", d.Broken)
	case d.RanOut > 0:
		return Refuse("the generator ran out of requests")
	case d.Requests == 0:
		return Refuse("nothing was answered")
	case status < 400 && d.Refused > 0:
		return Refuse("%d of %d answers were refusals, want only %d", d.Refused, d.Requests, status)
	case status >= 400 && d.Refused != d.Requests:
		return Refuse("%d of %d answers were no refusals, want only %d", d.Requests-d.Refused, d.Requests, status)
	case d.Busy > mostBusy:
		return Refuse(
			"the generator was the bottleneck: its threads ran %.0f%% of the time, at most %.0f%% is accepted",
			100*d.Busy, 100*mostBusy)
	case d.CPU.Seconds() > mostShare*(d.CPU+served).Seconds():
		return Refuse("the generator was the bottleneck: it spent %s of CPU time and what it measured %s", d.CPU,
			served)
	}
	return nil
}

// CheckCounts compares the gateway's counters of statuses and codes with wrk's count. Requests in progress when wrk
// ended are only in the gateway's count, at most spare, with any status.
func CheckCounts(before, after Metrics, want Expected, seen int64, spare int) error {
	count := func(name string, labels ...string) int64 {
		return int64(after.Sum(name, labels...) - before.Sum(name, labels...))
	}
	const answers = "http_server_request_duration_seconds_count"
	route, status := fmt.Sprintf("route=%q", want.Route), fmt.Sprintf("code=\"%d\"", want.Status)
	all, right := count(answers, route), count(answers, route, status)
	if all-right > int64(spare) {
		return Refuse("%d of %d answers on %s did not have the status %d", all-right, all, want.Route, want.Status)
	}
	kinds := []int64{right}
	switch {
	case want.Code != "":
		kinds = append(kinds, count("sluice_orders_rejected_total", fmt.Sprintf("code=%q", want.Code)))
	case want.Status == 202:
		kinds = append(kinds, count("sluice_orders_admitted_total"))
	}
	for _, n := range kinds {
		if n < seen || n > seen+int64(spare) {
			return Refuse("the gateway counted %d answers %d %s, the generator %d", n, want.Status, want.Code, seen)
		}
	}
	return nil
}

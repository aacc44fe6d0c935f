package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// verdict is what a judge found.
type verdict struct {
	accepted  int
	confirmed int // and not expired; paid ones too
	paid      int
	expired   int
	gone      int      // accepted orders that went with a Redis that lost its data
	lost      int      // of those, the ones that failed for good when their receipts were shown
	revived   int      // cancelled ones that came back the same way
	forgotten int      // repeated requests whose orders went with a Redis that lost its data
	late      int      // orders that a request made after it had been repeated and refused
	audits    int      // clean audits while busy
	parties   int      // transactions with orders of several sales
	alarms    []string // what the processes logged as errors
	recovery  time.Duration
	silence   time.Duration // the longest that nobody was accepted while something was broken
	stood     time.Duration // the longest that a difference was seen to stand

	mu    sync.Mutex
	wrong []string
}

const wrongMost = 40 // findings that are kept

func (v *verdict) find(bad bool, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if bad && len(v.wrong) < wrongMost {
		v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
	}
}

// judge compares what the shoppers were told with what is in the stores.
type judge struct {
	cluster *cluster
	sale    string
	plan    plan
	history *history
	breaker *breaker
	verdict *verdict

	mu           sync.Mutex
	differsSince time.Time // the first of the audits in a row that were not clean
	stoodTooLong bool
}

// watch audits the busy system until ctx ends. No answer is no news, an
// unclean one is.
func (j *judge) watch(ctx context.Context) {
	choice := chanceOf(j.plan.seed)
	for pause(ctx, 150*time.Millisecond) == nil {
		asked := time.Now()
		a, err := j.cluster.admin(ctx, pick(choice, j.cluster.nodes), http.MethodGet, "/audit", nil)
		var result auditResult
		if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Raw, &result) != nil {
			continue
		}
		j.mu.Lock()
		switch result.Verdict {
		case "clean":
			j.agrees()
		case "different": // "unknown": it found the line in motion each time it looked, or a store away
			j.differs(asked, a.Raw)
		}
		j.mu.Unlock()
	}
}

const (
	quietPatience = 4 * time.Minute
	lookEvery     = 30 * time.Millisecond
)

// settled waits until every order accepted so far has ended in the database
// and reports how long after since that was.
func (j *judge) settled(ctx context.Context, since time.Time) time.Duration {
	ids := slices.Collect(maps.Keys(j.history.accepted()))
	j.wait(ctx, "the accepted orders are not settled", func() string {
		rows, err := j.cluster.stores.orders(ctx, j.sale)
		if err != nil {
			return err.Error()
		}
		left := 0
		for _, id := range ids {
			if _, ok := rows[id]; !ok {
				left++
			}
		}
		if left > 0 && !j.plan.lossy() {
			return fmt.Sprintf("%d of %d accepted orders are not in the database", left, len(ids))
		}
		return j.lineBusy(ctx)
	})
	return max(time.Since(since), 0)
}

func (j *judge) lineBusy(ctx context.Context) string {
	busy, err := j.cluster.stores.busy(ctx, j.sale)
	if err != nil {
		return err.Error()
	}
	return busy
}

// quiet waits until nothing is on its way any more.
func (j *judge) quiet(ctx context.Context) {
	j.wait(ctx, "the system does not come to rest", func() string {
		if busy := j.lineBusy(ctx); busy != "" || !j.plan.pays {
			return busy
		}
		return j.cluster.stores.unpaid(ctx, j.sale)
	})
}

func (j *judge) wait(ctx context.Context, complaint string, busy func() string) {
	ctx, cancel := context.WithTimeout(ctx, quietPatience)
	defer cancel()
	for {
		why := busy()
		if why == "" {
			return
		}
		if pause(ctx, lookEvery) != nil {
			j.verdict.find(true, "%s: %s", complaint, why)
			return
		}
	}
}

// decide checks every rule on a system at rest.
func (j *judge) decide(ctx context.Context) {
	j.verdict.silence = silence(j.history.all(), j.breaker.spans)
	if j.plan.lossy() {
		j.redeem(ctx)
		j.quiet(ctx)
	}
	j.replays(ctx)
	j.quiet(ctx)
	j.audit(ctx)
	rows, err := j.cluster.stores.orders(ctx, j.sale)
	if err != nil {
		j.verdict.find(true, "read the orders: %v", err)
		return
	}
	j.ledger(ctx, rows)
	j.answers()
	j.origins(rows)
	j.payments(rows)
	j.outcomes(ctx, rows)
	j.news(ctx, rows)
	for _, n := range j.cluster.nodes {
		j.process(n)
	}
}

// process checks what a process says of itself.
func (j *judge) process(n *node) {
	_, exits, _ := n.record()
	j.verdict.find(len(exits) > 0, "%v", exits)
	text, err := os.ReadFile(n.logPath)
	j.verdict.find(err != nil, "log of %s: %v", n.name, err)
	for _, sign := range []string{"panic", "goroutine 1 ["} {
		j.verdict.find(bytes.Contains(text, []byte(sign)), "the log of %s holds %q", n.name, sign)
	}
	for line := range bytes.Lines(text) {
		var said struct{ Level, Msg string }
		if json.Unmarshal(line, &said) == nil && said.Level == "ERROR" {
			j.verdict.alarms = append(j.verdict.alarms, said.Msg)
		}
	}
}

// audit asks the command line, which must agree and exit with 0.
func (j *judge) audit(ctx context.Context) {
	_, ops := j.cluster.nodes[0].addresses()
	cmd := exec.CommandContext(ctx, j.cluster.nodes[0].binary, "audit", "--json", "--ops", "http://"+ops)
	cmd.Env = []string{"SLUICE_AUTH__SECRET=" + secret, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	j.verdict.find(err != nil, "sluice audit: %v: %s", err, out)
}

// ledger checks the sums with SQL of our own.
func (j *judge) ledger(ctx context.Context, rows map[string]orderRow) {
	total, available, err := j.cluster.stores.stock(ctx, j.sale)
	j.verdict.find(err != nil, "read the stock: %v", err)
	live, held := 0, map[string]int{}
	for _, r := range rows {
		confirmed := r.Status == "confirmed" || r.Status == "paid"
		j.verdict.find(confirmed != r.Live, "order %s is %s and its slot says live: %v", r.ID, r.Status, r.Live)
		if confirmed {
			j.verdict.confirmed++
			live += r.Quantity
			held[r.User] += r.Quantity
		}
	}
	j.verdict.find(total != j.plan.stock, "stock is %d, was created with %d", total, j.plan.stock)
	j.verdict.find(live > j.plan.stock, "OVERSOLD: %d units of %d", live, j.plan.stock)
	j.verdict.find(total != available+live, "ledger: total %d, available %d, live %d", total, available, live)
	for user, units := range held {
		j.verdict.find(units > j.plan.limit, "%s holds %d units, the limit is %d", user, units, j.plan.limit)
	}
}

// answers checks every answer against the contract and against each other.
func (j *judge) answers() {
	allowed := map[string][]string{
		http.MethodPost:   {"202 ", "409 sold_out", "409 limit_reached", "503 unavailable", "503 queue_full"},
		http.MethodGet:    {"200 ", "503 unavailable", "404 not_found"},
		http.MethodDelete: {"200 ", "503 unavailable", "404 not_found", "409 not_cancellable"},
		methodPay:         {"200 ", "503 unavailable", "404 not_found", "425 not_confirmed"},
	}
	orders := map[string]string{}
	for _, r := range j.history.all() {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, methodPay} {
			for _, a := range r.by(method) {
				if a.err != nil {
					continue
				}
				kind := fmt.Sprintf("%d %s", a.reply.Status, a.reply.Code)
				j.verdict.find(!slices.Contains(allowed[method], kind), "%s of %s was answered %s: %s", method, r.id,
					kind, a.reply.Raw)
				j.verdict.find(a.reply.Status == http.StatusNotFound && !j.plan.lossy(),
					"%s of %s, which was accepted: %s", method, r.id, a.reply.Raw)
			}
		}
		first := r.orderID()
		for _, a := range r.placed() {
			id := a.reply.OrderID
			j.verdict.find(a.err == nil && a.reply.Status == http.StatusAccepted && id != first,
				"key %s was given orders %s and %s", r.key, first, id)
		}
		if first != "" {
			j.verdict.find(orders[first] != "", "order %s was given to %s and %s", first, orders[first], r.id)
			orders[first] = r.id
		}
	}
}

// origins traces every row to the request that made it.
func (j *judge) origins(rows map[string]orderRow) {
	requests, used := map[string]*request{}, map[string]string{}
	for _, r := range j.history.all() {
		requests[r.email()] = r
	}
	accepted := j.history.accepted()
	for _, row := range rows {
		r := requests[row.Email]
		if row.Email == "" && (!row.Live || j.plan.forgets()) {
			r = accepted[row.ID] // the contact goes when an order ends before it is confirmed, or with the ticket
		}
		if r == nil {
			j.verdict.find(true, "order %s of %s, %s, was never asked for", row.ID, row.User, row.Email)
			continue
		}
		j.verdict.find(used[r.id] != "", "request %s made orders %s and %s", r.id, used[r.id], row.ID)
		used[r.id] = row.ID
		short := row.Reason == "lost" && row.Quantity == 1 // told by its id alone, which says no quantity
		j.verdict.find(row.User != r.user || row.Quantity != r.units && !short, "order %s is %s x%d, %s asked for %d",
			row.ID, row.User, row.Quantity, r.user, r.units)
		id := r.orderID()
		j.verdict.find(id != "" && id != row.ID, "request %s was given order %s, the database has %s", r.id, id, row.ID)
		if last, refused := r.refused(); refused {
			late := row.AdmittedAt >= last.sent.UnixMilli()-5 && len(r.placed()) > 1
			j.verdict.find(!late, "request %s was refused with %s but has order %s (%s)", r.id, last.reply.Code,
				row.ID, row.Status)
			if late {
				j.verdict.late++
			}
		}
	}
}

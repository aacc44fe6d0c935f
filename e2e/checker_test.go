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

// findings are what a checker found.
type findings struct {
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
	multiSale int      // transactions with orders of several sales
	alarms    []string // what the processes logged as errors
	recovery  time.Duration
	silence   time.Duration // the longest that nobody was accepted while something was broken
	stood     time.Duration // the longest that a difference was seen to stand

	mu    sync.Mutex
	wrong []string
}

const wrongMost = 40 // findings that are kept

// addIf keeps a finding that is bad. Safe for concurrent use.
func (f *findings) addIf(bad bool, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bad && len(f.wrong) < wrongMost {
		f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
	}
}

// checker compares what the shoppers were told with what is in the stores.
type checker struct {
	cluster  *cluster
	sale     string
	plan     plan
	history  *history
	breaker  *breaker
	findings *findings

	mu           sync.Mutex
	differsSince time.Time // the first of the audits in a row that were not clean
	stoodTooLong bool
}

// auditWhileBusy audits the busy system until ctx ends. No answer is no news, an
// unclean one is.
func (k *checker) auditWhileBusy(ctx context.Context) {
	choice := chanceOf(k.plan.seed)
	for pause(ctx, 150*time.Millisecond) == nil {
		asked := time.Now()
		a, err := k.cluster.admin(ctx, pick(choice, k.cluster.nodes), http.MethodGet, "/audit", nil)
		var result auditResult
		if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Raw, &result) != nil {
			continue
		}
		k.mu.Lock()
		switch result.Verdict {
		case "clean":
			k.noteClean()
		case "different": // "unknown": it found the line in motion each time it looked, or a store away
			k.noteDifference(asked, a.Raw)
		}
		k.mu.Unlock()
	}
}

const (
	quietPatience = 4 * time.Minute
	lookEvery     = 30 * time.Millisecond
)

// awaitSettled waits until every order accepted so far has ended in the database
// and reports how long after since that was.
func (k *checker) awaitSettled(ctx context.Context, since time.Time) time.Duration {
	ids := slices.Collect(maps.Keys(k.history.accepted()))
	k.await(ctx, "the accepted orders are not settled", func() string {
		rows, err := k.cluster.stores.orders(ctx, k.sale)
		if err != nil {
			return err.Error()
		}
		left := 0
		for _, id := range ids {
			if _, ok := rows[id]; !ok {
				left++
			}
		}
		if left > 0 && !k.plan.lossy() {
			return fmt.Sprintf("%d of %d accepted orders are not in the database", left, len(ids))
		}
		return k.lineBusy(ctx)
	})
	return max(time.Since(since), 0)
}

func (k *checker) lineBusy(ctx context.Context) string {
	busy, err := k.cluster.stores.busy(ctx, k.sale)
	if err != nil {
		return err.Error()
	}
	return busy
}

// awaitQuiet waits until nothing is on its way any more.
func (k *checker) awaitQuiet(ctx context.Context) {
	k.await(ctx, "the system does not come to rest", func() string {
		if busy := k.lineBusy(ctx); busy != "" || !k.plan.pays {
			return busy
		}
		return k.cluster.stores.unpaid(ctx, k.sale)
	})
}

func (k *checker) await(ctx context.Context, complaint string, busy func() string) {
	ctx, cancel := context.WithTimeout(ctx, quietPatience)
	defer cancel()
	for {
		why := busy()
		if why == "" {
			return
		}
		if pause(ctx, lookEvery) != nil {
			k.findings.addIf(true, "%s: %s", complaint, why)
			return
		}
	}
}

// checkAll checks every rule on a system at rest.
func (k *checker) checkAll(ctx context.Context) {
	k.findings.silence = silence(k.history.all(), k.breaker.spans)
	if k.plan.lossy() {
		k.showReceipts(ctx)
		k.awaitQuiet(ctx)
	}
	k.repeatAccepted(ctx)
	k.awaitQuiet(ctx)
	k.checkAudit(ctx)
	rows, err := k.cluster.stores.orders(ctx, k.sale)
	if err != nil {
		k.findings.addIf(true, "read the orders: %v", err)
		return
	}
	k.checkLedger(ctx, rows)
	k.checkAnswers()
	k.checkOrigins(rows)
	k.checkPayments(rows)
	k.checkOutcomes(ctx, rows)
	k.checkEvents(ctx, rows)
	for _, n := range k.cluster.nodes {
		k.checkProcess(n)
	}
}

// checkProcess checks what a process says of itself.
func (k *checker) checkProcess(n *node) {
	_, exits, _ := n.record()
	k.findings.addIf(len(exits) > 0, "%v", exits)
	text, err := os.ReadFile(n.logPath)
	k.findings.addIf(err != nil, "log of %s: %v", n.name, err)
	for _, sign := range []string{"panic", "goroutine 1 ["} {
		k.findings.addIf(bytes.Contains(text, []byte(sign)), "the log of %s holds %q", n.name, sign)
	}
	for line := range bytes.Lines(text) {
		var said struct{ Level, Msg string }
		if json.Unmarshal(line, &said) == nil && said.Level == "ERROR" {
			k.findings.alarms = append(k.findings.alarms, said.Msg)
		}
	}
}

// checkAudit asks the command line, which must agree and exit with 0.
func (k *checker) checkAudit(ctx context.Context) {
	_, ops := k.cluster.nodes[0].addresses()
	cmd := exec.CommandContext(ctx, k.cluster.nodes[0].binary, "audit", "--json", "--ops", "http://"+ops)
	cmd.Env = []string{"SLUICE_AUTH__SECRET=" + secret, "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	k.findings.addIf(err != nil, "sluice audit: %v: %s", err, out)
}

// checkLedger checks the sums with SQL of our own.
func (k *checker) checkLedger(ctx context.Context, rows map[string]orderRow) {
	total, available, err := k.cluster.stores.stock(ctx, k.sale)
	k.findings.addIf(err != nil, "read the stock: %v", err)
	live, held := 0, map[string]int{}
	for _, r := range rows {
		confirmed := r.Status == "confirmed" || r.Status == "paid"
		k.findings.addIf(confirmed != r.Live, "order %s is %s and its slot says live: %v", r.ID, r.Status, r.Live)
		if confirmed {
			k.findings.confirmed++
			live += r.Quantity
			held[r.User] += r.Quantity
		}
	}
	k.findings.addIf(total != k.plan.stock, "stock is %d, was created with %d", total, k.plan.stock)
	k.findings.addIf(live > k.plan.stock, "OVERSOLD: %d units of %d", live, k.plan.stock)
	k.findings.addIf(total != available+live, "ledger: total %d, available %d, live %d", total, available, live)
	for user, units := range held {
		k.findings.addIf(units > k.plan.limit, "%s holds %d units, the limit is %d", user, units, k.plan.limit)
	}
}

// checkAnswers checks every answer against the contract and against each other.
func (k *checker) checkAnswers() {
	allowed := map[string][]string{
		http.MethodPost:   {"202 ", "409 sold_out", "409 limit_reached", "503 unavailable", "503 queue_full"},
		http.MethodGet:    {"200 ", "503 unavailable", "404 not_found"},
		http.MethodDelete: {"200 ", "503 unavailable", "404 not_found", "409 not_cancellable"},
		methodPay:         {"200 ", "503 unavailable", "404 not_found", "425 not_confirmed"},
	}
	orders := map[string]string{}
	for _, r := range k.history.all() {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, methodPay} {
			for _, a := range r.by(method) {
				if a.err != nil {
					continue
				}
				kind := fmt.Sprintf("%d %s", a.reply.Status, a.reply.Code)
				k.findings.addIf(!slices.Contains(allowed[method], kind), "%s of %s was answered %s: %s", method, r.id,
					kind, a.reply.Raw)
				k.findings.addIf(a.reply.Status == http.StatusNotFound && !k.plan.lossy(),
					"%s of %s, which was accepted: %s", method, r.id, a.reply.Raw)
			}
		}
		first := r.orderID()
		for _, a := range r.placed() {
			id := a.reply.OrderID
			k.findings.addIf(a.err == nil && a.reply.Status == http.StatusAccepted && id != first,
				"key %s was given orders %s and %s", r.key, first, id)
		}
		if first != "" {
			k.findings.addIf(orders[first] != "", "order %s was given to %s and %s", first, orders[first], r.id)
			orders[first] = r.id
		}
	}
}

// checkOrigins traces every row to the request that made it.
func (k *checker) checkOrigins(rows map[string]orderRow) {
	requests, used := map[string]*request{}, map[string]string{}
	for _, r := range k.history.all() {
		requests[r.email()] = r
	}
	accepted := k.history.accepted()
	for _, row := range rows {
		r := requests[row.Email]
		if row.Email == "" && (!row.Live || k.plan.forgets()) {
			r = accepted[row.ID] // the contact goes when an order ends before it is confirmed, or with the ticket
		}
		if r == nil {
			k.findings.addIf(true, "order %s of %s, %s, was never asked for", row.ID, row.User, row.Email)
			continue
		}
		k.findings.addIf(used[r.id] != "", "request %s made orders %s and %s", r.id, used[r.id], row.ID)
		used[r.id] = row.ID
		short := row.Reason == "lost" && row.Quantity == 1 // told by its id alone, which says no quantity
		k.findings.addIf(row.User != r.user || row.Quantity != r.units && !short, "order %s is %s x%d, %s asked for %d",
			row.ID, row.User, row.Quantity, r.user, r.units)
		id := r.orderID()
		k.findings.addIf(id != "" && id != row.ID, "request %s was given order %s, the database has %s",
			r.id, id, row.ID)
		if last, refused := r.refused(); refused {
			late := row.AdmittedAt >= last.sent.UnixMilli()-5 && len(r.placed()) > 1
			k.findings.addIf(!late, "request %s was refused with %s but has order %s (%s)", r.id, last.reply.Code,
				row.ID, row.Status)
			if late {
				k.findings.late++
			}
		}
	}
}

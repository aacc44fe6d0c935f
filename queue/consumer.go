package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/panjf2000/ants/v2"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

// Handler turns tickets into orders. Its methods are called by many
// goroutines, each with tickets of its own, and must return before the
// context's deadline, which lies within the lease.
type Handler interface {
	// Handle answers every ticket of the batch with an outcome. An error means
	// that something all tickets need was not available: it is nobody's fault,
	// the batch goes back as it was and the consumer pauses.
	Handle(ctx context.Context, b Batch) ([]Outcome, error)
	// Bury answers tickets that have failed too often: their orders are
	// recorded as failed, unless they exist after all.
	Bury(ctx context.Context, b Batch, reason string) ([]Outcome, error)
}

// Consumer drains lines through an ants pool: the pool's size is the bound of
// what runs. A worker is taken first and then claims for itself, so no ticket
// ever waits in memory for a worker.
type Consumer struct {
	cfg     Config
	lines   *Lines
	sales   func() []string
	handler Handler
	party   PartyHandler // nil: the handler takes one line at a time
	log     *slog.Logger
	now     func() time.Time
	metrics *consumerMetrics
	pool    *ants.PoolWithFuncGeneric[turn]
	ready   *readySet
	brake   *brake // of a process that must not drain
	pauses  *pauses
	common  *commonFault
	others  atomic.Int64 // claims while every ticket fails alike
	swept   apart.Troubles
	failing apart.Troubles // lines and servers in doubt
	drained *witness       // lines whose batches went through
	reached *witness       // servers that answered
	late    lateSettles
	tuning  *tuning
	pace    *pace
	turns   *turns
	stop    chan struct{}
	once    sync.Once
}

// sweepEvery bounds how long a ticket waits when the wake message for it was lost; see sweepMost.
const sweepEvery = 250 * time.Millisecond

// NewConsumer returns a consumer over the lines of the sales that sales()
// returns. Call Run once.
func NewConsumer(cfg Config, size PoolConfig, lines *Lines, sales func() []string, h Handler, log *slog.Logger, now func() time.Time, reg prometheus.Registerer) (*Consumer, error) {
	c := &Consumer{
		cfg: cfg, lines: lines, sales: sales, handler: h, log: log, now: now,
		ready: newReadySet(newDoubts(now, size.Size, lines.server)), brake: newBrake(now), pauses: newPauses(now), common: newCommonFault(now),
		tuning: newTuning(cfg), pace: newPace(cfg.Lease), turns: newTurns(), stop: make(chan struct{}),
		drained: newWitness(now), reached: newWitness(now), late: newLateSettles(),
	}
	c.party, _ = h.(PartyHandler)
	pool, err := ants.NewPoolWithFuncGeneric(size.Size, c.work, ants.WithLogger(antsLog{log}))
	if err != nil {
		return nil, fmt.Errorf("open the worker pool of %d: %w", size.Size, err)
	}
	c.pool = pool
	c.metrics = newConsumerMetrics(reg, pool, c)
	return c, nil
}

// OneWriter says that the handler's database has a single writer. Call it before Run.
func (c *Consumer) OneWriter() *Consumer {
	c.pace.writers = writersOf(1)
	return c
}

// Run drains until ctx ends, then lets running batches finish and returns.
// Nothing stays leased unless a batch outlives its own deadline.
func (c *Consumer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { c.listen(ctx) })
	loops.Go(func() { c.sweep(ctx) })
	c.dispatch(ctx)
	c.once.Do(func() { close(c.stop) })
	loops.Wait()
	err := c.pool.ReleaseTimeout(c.cfg.Lease)
	c.late.wait()
	if err != nil {
		return fmt.Errorf("stop the worker pool: %w: its batches are taken over when their lease ends", err)
	}
	return nil
}

// Close lets go of the pool of a consumer that was not run. After Run it does nothing.
func (c *Consumer) Close() error {
	if c.pool.IsClosed() {
		return nil
	}
	return c.pool.ReleaseTimeout(c.cfg.Lease)
}

// dispatch gives one worker at a time to each line that has work, and to each
// party of lines that have little, in turn, so that a hot sale does not starve
// the others.
func (c *Consumer) dispatch(ctx context.Context) {
	for {
		next, err := c.ready.next(ctx, c.partySize)
		if err != nil || c.brake.wait(ctx) != nil {
			return
		}
		if err := c.pool.Invoke(next); err != nil {
			return
		}
	}
}

func (c *Consumer) stopping() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// work is one turn of a pool worker.
func (c *Consumer) work(t turn) {
	defer c.ready.done(t)
	if c.stopping() {
		return
	}
	// The dispatcher may have been waiting for this worker since before the bar.
	if c.brake.left() > 0 {
		for _, sale := range t.sales {
			c.ready.add(sale)
		}
		return
	}
	sales := c.ready.undoubted(t)
	switch len(sales) {
	case 0:
		return
	case 1:
	default:
		c.workParty(sales)
		return
	}
	most := c.pace.batches
	if t.lane || t.trial != "" {
		most = 1 // as in a party of more
	}
	c.workLine(sales[0], most)
}

// workLine claims a batch of one line, runs it and settles it, as one of most workers.
func (c *Consumer) workLine(sale string, most int) {
	if c.barred(sale) {
		return
	}
	if c.tuning.holds(sale) {
		c.resume(inSale(sale))
		return
	}
	if !c.turns.enter(sale, most) {
		return
	}
	leave := sync.OnceFunc(func() {
		if c.turns.leave(sale) {
			c.ready.add(sale)
		}
	})
	defer leave()
	// The work outlives the stop signal, never the lease. The last quarter is
	// for settling: a handler that ran into its deadline still gives its batch back.
	held, release := context.WithTimeout(context.Background(), c.cfg.Lease)
	defer release()
	ctx, cancel := context.WithTimeout(held, c.cfg.Lease*3/4)
	defer cancel()
	line := c.lines.Of(sale)
	parts, err := c.claim(ctx, line)
	if err != nil {
		c.fault(PausedByRedis, err, sale)
		return
	}
	c.answered(sale)
	c.resume(func(p Pause) bool { return p.Sale == sale && (len(parts) == 0 || ofRedis(p)) })
	if len(parts) == 0 {
		c.restore(ofLine(sale))
		return
	}
	killpoint.Pass("claim.done")
	suspects := parts[0].Suspects
	if suspects {
		leave()
	}
	if suspects || parts[len(parts)-1].Left > 0 {
		c.ready.addLone(sale)
	} else if parts[0].size() <= partyTickets {
		c.ready.mayJoin(sale)
	}
	c.finish(ctx, held, line, parts)
}

// claim takes a batch in parts that are claimed and settled one by one, so
// that Redis is never busy with one for long, but run together.
func (c *Consumer) claim(ctx context.Context, line *Line) ([]Batch, error) {
	most := c.pace.bound(int(c.tuning.batch.Load()))
	first, err := c.claimFirst(ctx, line, c.pace.first(most, c.cfg.MaxAttempts))
	if err != nil || first.size() == 0 {
		return nil, err
	}
	parts, left := []Batch{first}, c.pace.rest(most, first)
	for left > 0 {
		next, err := line.claim(ctx, uuid.NewString(), Portion{Most: min(left, part), Least: left, Share: 1}, c.cfg.Lease)
		if err != nil || next.size() == 0 {
			return parts, nil // what is there is enough to go on with: the next claim tells what is wrong
		}
		if next.Epoch != first.Epoch {
			parts, first = nil, next // a rebuild has taken the parts before
		}
		parts, left = append(parts, next), left-next.size()
	}
	return parts, nil
}

// claimFirst takes suspects before others. While every ticket fails alike it takes
// others first in every second claim: one of them may show that only the suspects do.
func (c *Consumer) claimFirst(ctx context.Context, line *Line, p Portion) (Batch, error) {
	if c.common.stands() && c.others.Add(1)%2 == 0 {
		plain := p
		plain.Suspects = 0
		if b, err := line.claim(ctx, uuid.NewString(), plain, c.cfg.Lease); err != nil || b.size() > 0 {
			return b, err
		}
	}
	return line.claim(ctx, uuid.NewString(), p, c.cfg.Lease)
}

// finish runs a claimed batch and settles its parts.
func (c *Consumer) finish(ctx, held context.Context, line *Line, parts []Batch) {
	started := c.now()
	whole := join(parts)
	answers, fault := c.run(ctx, whole)
	unreadable, bad := c.buryUnreadable(ctx, line, whole)
	fault = cmp.Or(fault, bad)
	// The newest part first: what goes back to the line goes to its end, and the oldest must come out of it first again.
	for _, p := range slices.Backward(parts) {
		from := len(answers) - len(p.Tickets)
		outcomes := slices.Clone(answers[from:])
		for _, poison := range p.Poisoned {
			outcomes = append(outcomes, unreadable[poison.ID])
		}
		answers = answers[:from]
		c.settle(held, line, p, outcomes)
		c.metrics.finished(p, outcomes, c.now())
	}
	took := c.now().Sub(started)
	c.metrics.ran(len(whole.Tickets), took)
	c.pace.ended(whole.size(), took, fault == nil)
	if fault != nil {
		c.fault(reasonOf(fault), fault, whole.Sale)
		return
	}
	if len(whole.Tickets) > 0 {
		c.went(whole.Sale)
		c.resume(anyPause)
	}
}

// reasonOf names what a batch failed for.
func reasonOf(fault error) string {
	switch {
	case errors.Is(fault, ErrCommon):
		return PausedByAll
	case errors.Is(fault, errLine):
		return PausedByRedis
	}
	return PausedByDatabase
}

// join makes the parts of a batch one, under the name of the first.
func join(parts []Batch) Batch {
	if len(parts) == 1 {
		return parts[0]
	}
	whole, size := parts[0], 0
	for _, p := range parts {
		size += len(p.Tickets)
	}
	whole.Tickets, whole.Poisoned = make([]Ticket, 0, size), nil
	for _, p := range parts {
		whole.Tickets = append(whole.Tickets, p.Tickets...)
		whole.Poisoned = append(whole.Poisoned, p.Poisoned...)
	}
	return whole
}

// run answers every ticket of the batch, in their order. A fault is an error
// that no ticket has caused.
func (c *Consumer) run(ctx context.Context, b Batch) (outcomes []Outcome, fault error) {
	if len(b.Tickets) == 0 {
		return nil, nil
	}
	b.Shared = c.common.stands()
	answers, err := c.handle(ctx, b)
	var crash *apart.PanicError
	switch {
	case errors.As(err, &crash):
		c.log.Error("a batch panicked", "sale", b.Sale, "tickets", len(b.Tickets), "panic", crash.Value, "stack", crash.Stack)
		answers = c.retryAll(b)
	case err != nil:
		return complete(b, nil), err
	}
	answers = complete(b, answers)
	if fault = c.common.learn(b, answers); fault != nil {
		uncounted(b, answers)
	}
	return answers, fault
}

// handle gives a batch to the handler, or to its Bury when its one ticket has failed too often.
func (c *Consumer) handle(ctx context.Context, b Batch) (outcomes []Outcome, err error) {
	last := b.Solo && b.Tickets[0].Attempts >= c.cfg.MaxAttempts
	if last && !c.common.possible() && !c.common.pardons() {
		return c.bury(ctx, b, gaveUp(b))
	}
	outcomes, err = c.attempt(ctx, b)
	if last && !c.common.possible() && failedAlone(outcomes, err) {
		return c.bury(ctx, b, gaveUp(b))
	}
	for i := range outcomes {
		if outcomes[i].Op == OpRetry && outcomes[i].Delay == 0 {
			outcomes[i].Delay = c.delay(b)
		}
	}
	return outcomes, err
}

// failedAlone reports whether an attempt of one ticket counts against it.
func failedAlone(outcomes []Outcome, err error) bool {
	var crash *apart.PanicError
	return errors.As(err, &crash) || err == nil && len(outcomes) == 1 && outcomes[0].Op == OpRetry
}

// attempt calls the handler, whose panic becomes an error: ants would only log it and lose the batch until its lease ends.
func (c *Consumer) attempt(ctx context.Context, b Batch) (outcomes []Outcome, err error) {
	err = apart.Try(func() (err error) {
		outcomes, err = c.handler.Handle(ctx, b)
		return err
	})
	return outcomes, err
}

func gaveUp(b Batch) string { return fmt.Sprintf("gave up after %d attempts", b.Tickets[0].Attempts) }

func (c *Consumer) bury(ctx context.Context, b Batch, reason string) (outcomes []Outcome, err error) {
	err = apart.Try(func() (err error) {
		outcomes, err = c.handler.Bury(ctx, b, reason)
		return err
	})
	return outcomes, err
}

// retryAll sends each ticket of a crashed batch to run alone: at once when it
// had company, since at most one of them is to blame, later when it had none.
func (c *Consumer) retryAll(b Batch) []Outcome {
	outcomes := make([]Outcome, len(b.Tickets))
	for i, t := range b.Tickets {
		outcomes[i] = Outcome{ID: t.ID, Op: OpRetry, Delay: c.delay(b)}
		if b.Solo {
			outcomes[i].Code = panicCode
		}
	}
	return outcomes
}

func (c *Consumer) delay(b Batch) time.Duration {
	if !b.Solo {
		return 0
	}
	return min(c.cfg.Backoff<<min(b.Tickets[0].Attempts, 16), time.Minute)
}

// complete keeps the first proper answer to each ticket of the batch. A ticket
// without one goes back unchanged.
func complete(b Batch, answers []Outcome) []Outcome {
	if inOrder(b.Tickets, answers) {
		return answers
	}
	answered := make(map[string]Outcome, len(b.Tickets))
	for _, o := range answers {
		if _, twice := answered[o.ID]; !twice && o.Op.valid() {
			answered[o.ID] = o
		}
	}
	outcomes := make([]Outcome, len(b.Tickets))
	for i, t := range b.Tickets {
		o, ok := answered[t.ID]
		if !ok {
			o = Outcome{ID: t.ID, Op: OpBack}
		}
		outcomes[i] = o
	}
	return outcomes
}

// inOrder reports whether answers is one proper answer to each ticket, as most often.
func inOrder(tickets []Ticket, answers []Outcome) bool {
	if len(answers) != len(tickets) {
		return false
	}
	for i := range answers {
		if answers[i].ID != tickets[i].ID || !answers[i].Op.valid() {
			return false
		}
	}
	return true
}

type antsLog struct{ log *slog.Logger }

func (a antsLog) Printf(format string, args ...any) { a.log.Error(fmt.Sprintf(format, args...)) }

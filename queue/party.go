package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/luascript"

	"github.com/google/uuid"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
)

// A party is the small batches of several lines: claimed in one round trip, run
// in one transaction, settled in one round trip. With it an order in one of a
// thousand sales costs little more than one in the only sale. Only what is
// plain goes along; everything else, and every party that did not go through as
// a whole, goes back and is run line by line.
const (
	partyLines   = 64 // most lines in one
	partyTickets = 20 // most tickets of a line in one: a line with more is worth a batch of its own
	partyLanes   = 2  // parties at a time: while one is run, what comes in gathers for the next
)

// PartyHandler is a Handler that can run a party.
type PartyHandler interface {
	Handler
	// HandleParty answers every ticket of every batch, or fails: then it has left
	// nothing that Handle, called for each of the batches, would not make good.
	HandleParty(ctx context.Context, batches []Batch) ([][]Outcome, error)
}

// partySize is how many lines may go together when batches are bounded by
// batch; below 2 there are no parties.
func (c *Consumer) partySize() int {
	if c.party == nil {
		return 0
	}
	return min(c.pace.bound(int(c.tuning.batch.Load()))/partyTickets, partyLines)
}

// workParty is one turn of a pool worker with several lines.
func (c *Consumer) workParty(sales []string) {
	if c.barred(sales...) {
		return
	}
	entered := make([]string, 0, len(sales))
	for _, sale := range sales {
		// One party at a time for each line: when its row in the database is locked, one is held up and not all.
		if !c.tuning.holds(sale) && c.turns.enter(sale, 1) {
			entered = append(entered, sale)
		}
	}
	if len(entered) == 0 {
		return
	}
	defer func() {
		for _, sale := range entered {
			if c.turns.leave(sale) {
				c.ready.add(sale)
			}
		}
	}()
	held, release := context.WithTimeout(context.Background(), c.cfg.Lease)
	defer release()
	ctx, cancel := context.WithTimeout(held, c.cfg.Lease*3/4)
	defer cancel()
	batches, failed := c.lines.claimEach(ctx, entered, uuid.NewString(), Portion{Most: partyTickets, Least: partyTickets, Share: 1, Suspects: 1}, c.cfg.Lease)
	for i, sale := range entered {
		if failed[i] == nil {
			c.answered(sale)
		}
	}
	for i, sale := range entered { // by now it is known whether others were answered
		if failed[i] != nil {
			c.fault(PausedByRedis, failed[i], sale)
		}
	}
	if len(batches) > 0 {
		killpoint.Pass("claim.done")
	}
	switch party := c.plain(held, batches); len(party) {
	case 0:
	case 1:
		c.finish(ctx, held, c.lines.Of(party[0].Sale), party)
	default:
		c.finishParty(ctx, held, party)
	}
}

// plain gives back the batches that do not go with others, before the others
// are run: a suspect may be what kills a worker.
func (c *Consumer) plain(held context.Context, batches []Batch) []Batch {
	party := batches[:0]
	for _, b := range batches {
		if b.plain() {
			party = append(party, b)
			if b.Left > 0 {
				c.ready.addLone(b.Sale)
			}
			continue
		}
		c.giveBack(held, b)
	}
	return party
}

// plain reports whether the tickets of a batch have neither failed nor ended.
func (b Batch) plain() bool {
	if b.Suspects || len(b.Poisoned) > 0 {
		return false
	}
	for i := range b.Tickets {
		if b.Tickets[i].State != Queued {
			return false
		}
	}
	return true
}

// giveBack puts a batch back where it came from; a worker takes it by itself.
func (c *Consumer) giveBack(held context.Context, b Batch) {
	outcomes := make([]Outcome, 0, b.size())
	for _, t := range b.Tickets {
		outcomes = append(outcomes, Outcome{ID: t.ID, Op: OpBack})
	}
	for _, p := range b.Poisoned {
		outcomes = append(outcomes, Outcome{ID: p.ID, Op: OpBack})
	}
	c.settle(held, c.lines.Of(b.Sale), b, outcomes)
	c.ready.addLone(b.Sale)
}

// finishParty runs and settles batches together, or gives all of them back.
func (c *Consumer) finishParty(ctx, held context.Context, party []Batch) {
	started := c.now()
	answers, err := c.handleParty(ctx, party)
	if err != nil {
		var crash *apart.PanicError
		if errors.As(err, &crash) {
			c.log.Error("a party panicked", "lines", len(party), "panic", crash.Value, "stack", crash.Stack)
		}
		c.log.Info("batches did not go through together: each is run by itself", "lines", len(party), "error", err)
		// When it took too long, smaller ones or none come next.
		c.pace.ended(ticketsOf(party), c.now().Sub(started), false)
		for _, b := range party {
			c.giveBack(held, b)
		}
		return
	}
	for i, b := range party {
		answers[i] = complete(b, answers[i])
	}
	c.settleParty(held, party, answers)
	for i, b := range party {
		c.metrics.finished(b, answers[i], c.now())
		c.went(b.Sale)
	}
	tickets, took := ticketsOf(party), c.now().Sub(started)
	c.metrics.ran(tickets, took)
	c.pace.ended(tickets, took, true)
	c.common.succeeded()
	c.resume(anyPause)
}

func ticketsOf(party []Batch) (n int) {
	for _, b := range party {
		n += len(b.Tickets)
	}
	return n
}

func (c *Consumer) handleParty(ctx context.Context, party []Batch) (answers [][]Outcome, err error) {
	err = apart.Try(func() (err error) {
		answers, err = c.party.HandleParty(ctx, party)
		return err
	})
	if err == nil && len(answers) != len(party) {
		return nil, fmt.Errorf("%d batches got %d answers", len(party), len(answers))
	}
	return answers, err
}

// settleParty settles in one round trip. What did not settle is tried again by itself.
func (c *Consumer) settleParty(held context.Context, party []Batch, answers [][]Outcome) {
	killpoint.Pass("settle.before")
	failed := c.lines.settleEach(held, party, answers)
	killpoint.Pass("settle.after")
	for i, err := range failed {
		if err != nil {
			c.settle(held, c.lines.Of(party[i].Sale), party[i], answers[i])
		}
	}
}

// claimEach claims from several lines in one round trip, under one batch id;
// lines with nothing to claim are left out. The errors are in the order of
// sales.
func (ls *Lines) claimEach(ctx context.Context, sales []string, id string, p Portion, lease time.Duration) ([]Batch, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		calls[i] = ls.Of(sale).claimCall(id, p, lease)
	}
	batches, failed := make([]Batch, 0, len(sales)), make([]error, len(sales))
	for i, a := range ls.scripts.claim.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		var b Batch
		if err == nil {
			b, err = ls.Of(sales[i]).readClaim(ctx, id, list)
		}
		if failed[i] = err; err == nil && b.size() > 0 {
			batches = append(batches, b)
		}
	}
	return batches, failed
}

// settleEach is Line.Settle for several lines in one round trip, each with an error of its own.
func (ls *Lines) settleEach(ctx context.Context, batches []Batch, outcomes [][]Outcome) []error {
	calls := make([]luascript.Call, len(batches))
	for i, b := range batches {
		calls[i] = ls.Of(b.Sale).settleCall(b, outcomes[i])
	}
	failed := make([]error, len(batches))
	for i, a := range ls.scripts.settle.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		failed[i] = ls.Of(batches[i].Sale).settled(list, err)
	}
	return failed
}

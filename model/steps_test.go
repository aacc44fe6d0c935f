package model_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
	"sluice/model"
	"sluice/queue"
)

const (
	// Random simulations of the model, four with each of the bounds; SOAK_PLAYS asks for more.
	plays   = 20
	moves   = 6000             // of each, most of which are no steps
	lease   = 10 * time.Minute // outlasts the test
	reserve = 5 * time.Second  // how long a dead rebuild blocks the next one
)

// bounds returns the bounds of a play. There are two calm ones, a stormy one, one with failovers during rebuilds, and
// one with two competing reconcilers. All have two tickets for one unit.
func bounds(seed int64) string {
	all := []string{
		"-DW=2 -DCANCEL",
		"-DW=2 -DN=1 -DCANCEL",
		"-DW=2 -DF=2 -DN=3 -DC=1 -DCANCEL -DE=12",
		"-DW=1 -DF=8 -DN=9 -DMIDWAY -DE=24",
		"-DW=1 -DK=2 -DF=1 -DN=3 -DC=1 -DCANCEL -DE=12",
	}
	return all[seed%int64(len(all))]
}

// TestStepsOfTheModelOnTheRealLine runs random steps of the model with the real scripts and transactions. After each,
// both stores must equal the model's state.
func TestStepsOfTheModelOnTheRealLine(t *testing.T) {
	t.Parallel()
	w, played := newWorld(t), map[string]int{}
	asked := int64(plays)
	if text := os.Getenv("SOAK_PLAYS"); text != "" {
		var err error
		asked, err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err, "SOAK_PLAYS")
	}
	for seed := range asked {
		steps, err := model.Simulate(t.Context(), seed, moves, bounds(seed))
		require.NoError(t, err)
		t.Logf("seed %d: %d steps", seed, len(steps))
		w.open(fmt.Sprint("sale-", seed))
		p := newPlay(w)
		p.run(steps)
		for _, s := range steps {
			played[s.Name]++
		}
	}
	for name := range (&play{}).steps() {
		if name != "ReleaseRefused" && name != "EndRefused" { // too rare to be required
			require.Positive(t, played[name], "no play took the step %s: %v", name, played)
		}
	}
	t.Log(played)
}

// play runs the steps of one simulation.
type play struct {
	*world
	batches  map[int]queue.Batch // by worker
	outcomes map[int][]queue.Outcome
	rebuilds map[int]*actor // by reconciler
	release  *actor
	copied   map[string]string // the line as replicated to the other server
	before   model.State       // the model's state at that time
}

func newPlay(w *world) *play {
	return &play{world: w, batches: map[int]queue.Batch{}, outcomes: map[int][]queue.Outcome{},
		rebuilds: map[int]*actor{}}
}

// run runs the steps and compares the stores with the model after each.
func (p *play) run(steps []model.Step) {
	n := 0
	defer func() {
		p.end()
		for _, s := range steps[:min(n+1, len(steps))] {
			if p.t.Failed() {
				p.t.Log(s)
			}
		}
	}()
	for n = range steps {
		s := steps[n]
		take, ok := p.steps()[s.Name]
		require.True(p.t, ok, "step %q is in the model and not in this test", s.Name)
		take(s)
		require.Equal(p.t, seen(s.State), seen(p.state()), "after the step %v", s)
	}
}

// steps returns the function that runs each step of the model.
func (p *play) steps() map[string]func(model.Step) {
	return map[string]func(model.Step){
		"Admit": p.admit, "AdmitRefused": p.admitRefused, "Cancel": p.cancel, "CancelHeld": p.cancelHeld,
		"End":   p.endOrder,
		"Claim": p.claim, "Commit": p.commit, "Settle": p.settle, "SettleRefused": p.settleRefused,
		"Reclaim":   p.reclaim,
		"ReadEnded": p.readEnded, "Release": p.releaseUnits, "ReleaseRefused": p.releaseRefused,
		"Forget": p.forgetRelease, "Mark": p.mark,
		"Lock": p.lock, "Death": p.death, "Gate": p.gate, "GateRefused": p.refused("before hscan"), "Survey": p.survey,
		"ReadLedger": p.readLedger, "EndRefused": p.refused(
			"before any"), "Restore": p.restore, "RestoreRefused": p.refused("before reopen"),
		"Reopen": p.reopen, "ReopenRefused": p.refused("never"), "Copy": p.copyLine, "TakeOver": p.failover,
	}
}

// end stops all actors that still halt.
func (p *play) end() {
	if p.release != nil {
		p.release.die()
	}
	for _, a := range p.rebuilds {
		a.die()
	}
}

func (p *play) request(ticket int) []queue.Request {
	return []queue.Request{{ID: p.id(ticket), User: user(ticket), Units: 1, Fingerprint: "print"}}
}

func (p *play) admit(s model.Step) {
	// Other tests cover how long a returned unit is not sold.
	require.NoError(p.t, p.raw.HDel(p.ctx, p.key("meta"), "sold_out", "full").Err())
	got, err := p.line.Admit(p.ctx, int64(p.real(s.Epoch)), 100, p.request(s.A))
	require.NoError(p.t, err)
	require.NoError(p.t, got[0].Err)
	require.False(p.t, got[0].Replayed)
}

// real returns the stores' epoch for an epoch of the model.
func (p *play) real(epoch int) int { return epoch + p.epoch }

func (p *play) admitRefused(s model.Step) {
	_, err := p.line.Admit(p.ctx, int64(p.real(s.B)), 100, p.request(s.A))
	require.ErrorIs(p.t, err, queue.ErrNotReady)
}

// cancel cancels a ticket that no worker has claimed.
func (p *play) cancel(s model.Step) { p.cancelAfter(s.A, 0) }

// cancelHeld cancels a ticket that a worker has claimed and given back. The model does not distinguish the lists.
func (p *play) cancelHeld(s model.Step) {
	p.unlist(s.A)
	require.NoError(p.t, p.raw.ZAdd(p.ctx, p.key("retry"), redis.Z{Score: 1e15, Member: p.id(s.A)}).Err())
	p.cancelAfter(s.A, 1_000_000)
}

// cancelAfter cancels a ticket after a number of claims, which the model does not know.
func (p *play) cancelAfter(ticket, claimed int) {
	before := p.raw.HGet(p.ctx, p.key("meta"), "claimed").Val()
	require.NoError(p.t, p.raw.HSet(p.ctx, p.key("meta"), "claimed", claimed).Err())
	require.NoError(p.t, p.line.Cancel(p.ctx, p.id(ticket), user(ticket)))
	require.NoError(p.t, p.raw.HSet(p.ctx, p.key("meta"), "claimed", before).Err())
}

// endOrder cancels an order; the process dies before it updates the line.
func (p *play) endOrder(s model.Step) {
	a := act(p.ctx, func(ctx context.Context) error { return p.canceller.Cancel(ctx, p.sale, p.id(s.A), user(s.A)) })
	require.True(p.t, a.run("before release"), "the order was not cancelled: %v", a.err)
	a.die()
}

// claim claims the ticket that the model claimed; the model leaves the order of tickets open.
func (p *play) claim(s model.Step) {
	p.unlist(s.B)
	require.NoError(p.t, p.raw.RPush(p.ctx, p.key("suspect"), p.id(s.B)).Err())
	b, err := p.line.Claim(p.ctx, uuid.NewString(), 1, lease)
	require.NoError(p.t, err)
	require.Len(p.t, b.Tickets, 1)
	require.Equal(p.t, p.id(s.B), b.Tickets[0].ID)
	p.batches[s.A] = b
}

// commit runs the worker's transaction, or ends a ticket that it gives up.
func (p *play) commit(s model.Step) {
	b, ticket := p.batches[s.A], p.ticketOf(s.A)
	var outcomes []queue.Outcome
	var err error
	if s.B == model.Failed && p.row(ticket) == model.None && s.Available > 0 {
		outcomes, err = p.fulfiller.Bury(p.ctx, b, "given up")
	} else {
		outcomes, err = p.fulfiller.Handle(p.ctx, b)
	}
	if s.B == model.Stale {
		require.ErrorIs(p.t, err, inventory.ErrStale)
		p.outcomes[s.A] = []queue.Outcome{{ID: b.Tickets[0].ID, Op: queue.OpBack}}
		return
	}
	require.NoError(p.t, err)
	require.Len(p.t, outcomes, 1)
	want := map[int][]queue.Op{model.Live: {queue.OpConfirm}, model.Failed: {queue.OpFail, queue.OpDead},
		model.Returned: {queue.OpEnded}, model.Released: {queue.OpEnded}, model.Close: {queue.OpClose}}[s.B]
	require.Contains(p.t, want, outcomes[0].Op, "%v", s)
	p.outcomes[s.A] = outcomes
}

// ticketOf returns the ticket that a worker has.
func (p *play) ticketOf(worker int) int {
	for ticket := range 2 {
		if p.batches[worker].Tickets[0].ID == p.id(ticket) {
			return ticket
		}
	}
	p.t.Fatalf("worker %d has no ticket of this play", worker)
	return 0
}

func (p *play) settle(s model.Step) {
	require.NoError(p.t, p.line.Settle(p.ctx, p.batches[s.A], p.outcomes[s.A]))
}

func (p *play) settleRefused(s model.Step) {
	require.ErrorIs(p.t, p.line.Settle(p.ctx, p.batches[s.A], p.outcomes[s.A]), queue.ErrFenced)
}

// reclaim ends the lease of a ticket.
func (p *play) reclaim(s model.Step) {
	require.NoError(p.t, p.raw.ZAddXX(p.ctx, p.key("lease"), redis.Z{Score: 1, Member: p.batchOf(s.A)}).Err())
	batches, tickets, err := p.line.Reclaim(p.ctx)
	require.NoError(p.t, err)
	require.EqualValues(p.t, []int64{1, 1}, []int64{batches, tickets})
}

func (p *play) readEnded(model.Step) {
	p.release = act(p.ctx, func(ctx context.Context) error { return p.reconciler.Release(ctx, p.sale) })
	require.True(p.t, p.release.run("before release"), "nothing was to be released: %v", p.release.err)
}

func (p *play) releaseUnits(model.Step) {
	require.True(p.t, p.release.run("after release"), "the line was not told: %v", p.release.err)
}

func (p *play) releaseRefused(model.Step) {
	require.False(p.t, p.release.run())
	require.ErrorIs(p.t, p.release.err, queue.ErrNotReady)
}

func (p *play) forgetRelease(model.Step) { p.release.die() }

func (p *play) mark(model.Step) {
	require.False(p.t, p.release.run())
	require.NoError(p.t, p.release.err)
}

func (p *play) lock(s model.Step) {
	p.clock.Advance(reserve)
	a := act(p.ctx, func(ctx context.Context) error { return p.reconciler.Rebuild(ctx, p.sale) })
	p.rebuilds[s.A] = a
	require.True(p.t, a.run("before close"), "the rebuild did not begin: %v", a.err)
}

func (p *play) death(s model.Step) { p.rebuilds[s.A].die() }

func (p *play) gate(s model.Step) {
	a := p.rebuilds[s.A]
	require.True(p.t, a.run("after close"), "the line was not closed: %v", a.err)
	p.closed()
}

// survey reads the remaining tickets of the line, its records last.
func (p *play) survey(s model.Step) {
	a := p.rebuilds[s.A]
	require.True(p.t, a.run("after hscan"), "the line was not read: %v", a.err)
}

func (p *play) readLedger(s model.Step) {
	a := p.rebuilds[s.A]
	require.True(p.t, a.run("before any"), "the ledger was not read: %v", a.err)
}

func (p *play) restore(s model.Step) {
	a := p.rebuilds[s.A]
	require.True(p.t, a.run("before reopen"), "the line was not restored: %v", a.err)
}

func (p *play) reopen(s model.Step) {
	a := p.rebuilds[s.A]
	require.False(p.t, a.run())
	require.NoError(p.t, a.err)
}

// refused returns a step in which a rebuild ends before the call after.
func (p *play) refused(after string) func(model.Step) {
	return func(s model.Step) {
		a := p.rebuilds[s.A]
		require.False(p.t, a.run(after), "the rebuild went on")
		require.Error(p.t, a.err)
	}
}

func (p *play) copyLine(s model.Step) { p.copied, p.before = p.dump(), s.State }

// failover makes the other server the master, without what the model removes. Later calls come from fresh processes, so
// only the server's identity protects the line.
func (p *play) failover(s model.Step) {
	p.takeOver(p.copied)
	for ticket := range s.Record {
		if s.Record[ticket] == model.None && p.before.Record[ticket] != model.None {
			p.lose(ticket)
		}
	}
	if s.Epoch == 0 {
		require.NoError(p.t, p.raw.Del(p.ctx, p.key("meta")).Err())
	}
	if s.Stock != p.before.Stock {
		require.NoError(p.t, p.raw.Del(p.ctx, p.key("stock")).Err())
	}
	p.forget()
	p.closed()
}

// closed checks that nothing changes a line that is being rebuilt or was not compared on this server.
func (p *play) closed() {
	sale, _, err := p.saleStore.Get(p.ctx, p.sale)
	require.NoError(p.t, err)
	before := p.dump()
	stranger := []queue.Request{{ID: uuid.NewString(), User: "eve", Units: 1, Fingerprint: "print"}}
	_, err = p.line.Admit(p.ctx, sale.Epoch, 100, stranger)
	require.ErrorIs(p.t, err, queue.ErrNotReady, "admitted")
	b, err := p.line.Claim(p.ctx, uuid.NewString(), 1, lease)
	require.NoError(p.t, err)
	require.Empty(p.t, b.Tickets, "claimed")
	for ticket := range 2 {
		require.Error(p.t, p.line.Cancel(p.ctx, p.id(ticket), user(ticket)), "cancelled")
	}
	require.Equal(p.t, before, p.dump())
}

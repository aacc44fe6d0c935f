package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/apart"
	"sluice/queue"
	"sluice/store/redis"
)

const (
	// roundPatience is how long a round waits: who takes longer goes on, and the others have their next turn.
	roundPatience = time.Second
	linesAtOnce   = 4  // lines that are rebuilt or changed at a time
	serversAtOnce = 16 // servers of a cluster that are asked at a time
	failuresNamed = 10 // failures that an error names
)

// turns holds back who is still at work: servers, whose lines are looked at together, and sales, whose line needs
// more than that.
type turns struct{ servers, sales *apart.Rounds }

func newTurns(patience time.Duration) turns {
	return turns{servers: apart.New(serversAtOnce, patience), sales: apart.New(linesAtOnce, patience)}
}

func (b turns) wait() {
	b.servers.Wait() // they give turns to sales
	b.sales.Wait()
}

// Reconcile is one round over all sales. The error says which could not be kept.
func (k *Reconciler) Reconcile(ctx context.Context) error { return k.reconcileAll(ctx, "") }

// reconcileAll keeps one sale, or all for "", and waits until that is done.
func (k *Reconciler) reconcileAll(ctx context.Context, only string) error {
	var mu sync.Mutex
	failed := map[string]error{}
	err := k.round(ctx, only, newTurns(0), func(sale string, err error) {
		mu.Lock()
		defer mu.Unlock()
		failed[sale] = err
	})
	errs := []error{err}
	for i, sale := range slices.Sorted(maps.Keys(failed)) {
		if i == failuresNamed {
			errs = append(errs, fmt.Errorf("%d more could not be kept", len(failed)-i))
			break
		}
		errs = append(errs, failed[sale])
	}
	return errors.Join(errs...)
}

// round gives a turn to one sale, or to all for "". Lines are looked at server
// by server, and what is to be done in one is done in a turn of its own: one
// that fails or takes its time holds up no other. Failed hears of each.
func (k *Reconciler) round(ctx context.Context, only string, by turns, failed func(sale string, err error)) error {
	sales, err := k.unfinished(ctx, only)
	if err != nil {
		return err
	}
	if only == "" {
		k.size.Store(int64(len(sales)))
	}
	unreleased, err := k.unreleased(ctx)
	if err != nil {
		return err
	}
	r := reconcileRound{Reconciler: k, all: make(map[string]saleAndTotal, len(sales)), unreleased: unreleased,
		failed: failed}
	for _, s := range sales {
		r.all[s.ID] = s
	}
	on := k.lines.ByServer(ctx, r.sales(only))
	by.servers.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		by.sales.Round(ctx, r.wanting(ctx, server, on[server]), r.keep,
			func(sale string, err error) { r.tell(ctx, sale, err) })
		return nil
	}, func(server string, err error) { r.tell(ctx, "server "+server, err) })
	return ctx.Err()
}

// reconcileRound is one look at sales.
type reconcileRound struct {
	*Reconciler
	all        map[string]saleAndTotal
	unreleased map[string]bool
	failed     func(sale string, err error)
}

// sales are those of the round: also what nobody keeps any more, and still has
// units to bring back. An order can be cancelled long after its sale.
func (r reconcileRound) sales(only string) []string {
	ids := slices.Sorted(maps.Keys(r.all))
	if only != "" {
		return ids
	}
	for id := range r.unreleased {
		if _, kept := r.all[id]; !kept {
			ids = append(ids, id)
		}
	}
	return ids
}

// keep is the turn of one sale.
func (r reconcileRound) keep(ctx context.Context, sale string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileMost)
	defer cancel()
	if s, kept := r.all[sale]; kept {
		err = r.reconcileLine(ctx, s)
	} else {
		err = r.release(ctx, sale)
	}
	if err == nil {
		r.troubles.Note(sale, nil)
	}
	return err
}

// wanting tells which lines of a server a round must touch, from a look at all
// of them: a reconciler of a thousand sales asks the stores a few questions, not a
// few thousand. What is said here only spares a look; whoever changes a line
// looks at it once more.
func (r reconcileRound) wanting(ctx context.Context, server string, sales []string) (wanting []string) {
	var away error
	for chunk := range slices.Chunk(sales, lookChunk) {
		views, unseen := r.views(ctx, chunk)
		for i, sale := range chunk {
			switch {
			case redis.Unavailable(unseen[i]):
				away = fmt.Errorf("%d lines: %w", len(sales), unseen[i])
				r.failed(sale, unseen[i])
			case unseen[i] != nil:
				r.tell(ctx, sale, unseen[i])
			case r.unreleased[sale] || !r.agrees(r.all[sale], views[i]) || r.learn(ctx, sale, r.all[sale].Epoch) != nil:
				wanting = append(wanting, sale)
			default:
				r.troubles.Note(sale, nil)
			}
		}
	}
	r.complain(ctx, "server "+server, away)
	return wanting
}

// tell says that a sale, or a server, could not be kept.
func (r reconcileRound) tell(ctx context.Context, what string, err error) {
	r.failed(what, err)
	r.complain(ctx, what, err)
}

// views looks at lines in one round trip.
func (k *Reconciler) views(ctx context.Context, sales []string) ([]queue.View, []error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return k.lines.Views(ctx, sales)
}

// agrees reports that reconcileLine would find nothing to do in a line.
func (k *Reconciler) agrees(s saleAndTotal, v queue.View) bool {
	if !v.Exists {
		return s.Finished(k.now())
	}
	return !s.Finished(v.Now) && !v.Rebuilding && v.Verified && v.Epoch == s.Epoch && v.Version >= s.Version &&
		!s.behind(v) && k.capFits(s.Sale, v.Cap)
}

// complain logs that a sale, or a server, cannot be kept, once until it can. That another instance is at it, or the
// line not yet ready, is no news.
func (k *Reconciler) complain(ctx context.Context, what string, err error) {
	if ctx.Err() != nil || errors.Is(err, ErrBusy) || errors.Is(err, queue.ErrNotReady) {
		return
	}
	if begun, _ := k.troubles.Note(what, err); begun {
		k.log.Warn("line and ledger could not be compared", "what", what, "error", err)
	}
}

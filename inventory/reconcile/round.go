package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/apart"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store/redis"
)

const (
	// roundPatience is how long a round waits: who takes longer goes on, and the others have their next turn.
	roundPatience = time.Second
	linesAtOnce   = 4           // lines that are rebuilt or changed at a time
	serversAtOnce = 16          // servers of a cluster that are asked at a time
	failuresNamed = 10          // failures that an error names
	viewChunk     = 100         // lines looked at in one round trip
	viewTime      = time.Second // for one round trip
)

// limiters hold back who is still at work. They are for servers, whose lines are looked at together, and for sales,
// whose line needs more than that.
type limiters struct{ servers, sales *apart.Rounds }

func newLimiters(patience time.Duration) limiters {
	return limiters{servers: apart.New(serversAtOnce, patience), sales: apart.New(linesAtOnce, patience)}
}

func (l limiters) wait() {
	l.servers.Wait() // they give turns to sales
	l.sales.Wait()
}

// Reconcile makes one round over all sales. The error says which could not be reconciled.
func (k *Reconciler) Reconcile(ctx context.Context) error { return k.reconcileAll(ctx, "") }

// reconcileAll reconciles one sale, or all for "", and waits until that is done.
func (k *Reconciler) reconcileAll(ctx context.Context, only string) error {
	var mu sync.Mutex
	failed := map[string]error{}
	err := k.round(ctx, only, newLimiters(0), func(sale string, err error) {
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

// round gives a turn to one sale, or to all for "". It looks at lines server by server. What is to be done in a line
// has a turn of its own. One that fails or takes its time holds up no other. It calls failed for each.
func (k *Reconciler) round(ctx context.Context, only string, by limiters, failed func(sale string, err error)) error {
	sales, err := k.unfinishedSales(ctx, only)
	if err != nil {
		return err
	}
	if only == "" {
		k.size.Store(int64(len(sales)))
	}
	unreleased, err := k.unreleasedSales(ctx)
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
		by.sales.Round(ctx, r.disagreeing(ctx, server, on[server]), r.reconcile,
			func(sale string, err error) { r.report(ctx, sale, err) })
		return nil
	}, func(server string, err error) { r.report(ctx, "server "+server, err) })
	return ctx.Err()
}

// reconcileRound is one look at sales.
type reconcileRound struct {
	*Reconciler
	all        map[string]saleAndTotal
	unreleased map[string]bool
	failed     func(sale string, err error)
}

// sales returns those of the round: also what nobody keeps any more, and still has units to bring back. An order can be
// cancelled long after its sale.
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

// reconcile brings one sale and its line into agreement, in a turn of its own.
func (r reconcileRound) reconcile(ctx context.Context, sale string) (err error) {
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

// disagreeing returns the lines of a server that a round must touch, from a look at all of them. So a reconciler of a
// thousand sales asks the stores a few questions, not a few thousand. The result only spares a look: whoever changes a
// line looks at it once more.
func (r reconcileRound) disagreeing(ctx context.Context, server string, sales []string) (found []string) {
	var away error
	for chunk := range slices.Chunk(sales, viewChunk) {
		views, unseen := r.views(ctx, chunk)
		for i, sale := range chunk {
			switch {
			case redis.Unavailable(unseen[i]):
				away = fmt.Errorf("%d lines: %w", len(sales), unseen[i])
				r.failed(sale, unseen[i])
			case unseen[i] != nil:
				r.report(ctx, sale, unseen[i])
			case r.unreleased[sale], !r.agrees(r.all[sale], views[i]),
				r.addLosses(ctx, sale, r.all[sale].Epoch) != nil:
				found = append(found, sale)
			default:
				r.troubles.Note(sale, nil)
			}
		}
	}
	r.warnOnce(ctx, "server "+server, away)
	return found
}

// report says that a sale, or a server, could not be kept.
func (r reconcileRound) report(ctx context.Context, what string, err error) {
	r.failed(what, err)
	r.warnOnce(ctx, what, err)
}

// views looks at lines in one round trip.
func (k *Reconciler) views(ctx context.Context, sales []string) ([]queue.View, []error) {
	ctx, cancel := context.WithTimeout(ctx, viewTime)
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

// warnOnce logs that a sale, or a server, cannot be kept, once until it can. That another instance is at it, or the
// line not yet ready, is no news.
func (k *Reconciler) warnOnce(ctx context.Context, what string, err error) {
	if ctx.Err() != nil || errors.Is(err, inventory.ErrBusy) || errors.Is(err, queue.ErrNotReady) {
		return
	}
	if begun, _ := k.troubles.Note(what, err); begun {
		k.log.Warn("line and ledger could not be compared", "what", what, "error", err)
	}
}

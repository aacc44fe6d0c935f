// Package reconcile holds every line in Redis in agreement with its sale in the database. It loads, rebuilds and
// changes lines, and puts back what a database has lost. It brings back the units of orders that ended.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/apart"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

const (
	reconcileEvery = 500 * time.Millisecond // how often every line is compared with its sale
	// for each line, when there are more than fit: a thousand are compared once in two seconds
	reconcileEach   = 2 * time.Millisecond
	reconcileMost   = 5 * time.Minute // for one line; a rebuild of a million orders takes about a minute
	syncWait        = 5 * time.Second
	syncPause       = 50 * time.Millisecond
	deadLettersKept = 24 * time.Hour // how long dead letters keep such a line
	// how long after a sale its line is still looked at: it may have dead letters, or still be there
	finishedWatched = 7 * 24 * time.Hour
)

// Reconciler holds every line in agreement with its sale. It loads lines that are missing, and rebuilds those that
// Redis lost or rolled back. It brings changed settings into them, and returns the units of orders that ended. Every
// instance runs one; they do not get into each other's way.
type Reconciler struct {
	db       *store.DB
	sales    *inventory.SaleStore
	lines    *queue.Lines
	caps     atomic.Pointer[inventory.CapPolicy]
	drain    func(sale string) inventory.Drain
	log      *slog.Logger
	now      func() time.Time
	wake     chan struct{}
	size     atomic.Int64   // sales of the last round
	troubles apart.Troubles // sales that cannot be kept, and servers

	restorer Restorer                        // nil: none
	owned    func(ctx context.Context) error // why no line may be loaded; nil: nothing keeps it
	// up to which epoch of a sale this process has said what it was answered, see addLosses
	addedLosses struct {
		mu     sync.Mutex
		epochs map[string]int64
	}
}

// New returns a reconciler; defaultCap is the cap of lines whose sale has none.
func New(db *store.DB, lines *queue.Lines, defaultCap int, log *slog.Logger,
	now func() time.Time) *Reconciler {
	k := &Reconciler{db: db, sales: inventory.NewSaleStore(db, now), lines: lines, log: log, now: now,
		wake: make(chan struct{}, 1)}
	k.drain = func(string) inventory.Drain { return inventory.Drain{PerSecond: inventory.FirstDrainRate} }
	k.caps.Store(&inventory.CapPolicy{Cap: defaultCap, MinCap: 1})
	k.addedLosses.epochs = map[string]int64{}
	return k
}

// OwnedBy keeps the reconciler from loading a line while owned returns an error, which it is asked before each. Call it
// before Run.
func (k *Reconciler) OwnedBy(owned func(ctx context.Context) error) { k.owned = owned }

// Wake makes the next round start at once.
func (k *Reconciler) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run reconciles all sales again and again until ctx ends.
func (k *Reconciler) Run(ctx context.Context) {
	by := newLimiters(roundPatience)
	defer by.wait()
	timer := time.NewTimer(reconcileEvery)
	defer timer.Stop()
	for {
		err := k.round(ctx, "", by, func(string, error) {})
		if begun, _ := k.troubles.Note("all", err); begun && ctx.Err() == nil {
			k.log.Warn("lines and ledger could not be compared", "error", err)
		}
		timer.Reset(max(reconcileEvery, time.Duration(k.size.Load())*reconcileEach))
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			return
		}
	}
}

// SyncLine reconciles one sale (all for "") for a caller who waits for a change to be in its line. It tries again for a
// few seconds while another instance is at it.
func (k *Reconciler) SyncLine(ctx context.Context, sale string) error {
	ctx, cancel := context.WithTimeout(ctx, syncWait)
	defer cancel()
	var busy error
	for {
		err := k.reconcileAll(ctx, sale)
		// A call to Redis may find the deadline over a moment before ctx does.
		if end, _ := ctx.Deadline(); busy != nil && (ctx.Err() != nil || !time.Now().Before(end)) {
			return busy // why it waited says more than that it waited too long
		}
		if !errors.Is(err, inventory.ErrBusy) && !errors.Is(err, queue.ErrNotReady) {
			return err
		}
		busy = err
		timer := time.NewTimer(syncPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

type saleAndTotal struct {
	inventory.Sale
	Total, Changes int64
}

// behind reports that the line knows of changes that the ledger lacks.
func (s saleAndTotal) behind(v queue.View) bool { return v.Ledger > s.Changes || v.Version > s.Version }

// unfinishedSales returns the sales that still need a line, or of them only one.
func (k *Reconciler) unfinishedSales(ctx context.Context, only string) ([]saleAndTotal, error) {
	var sales []saleAndTotal
	since := k.now().Add(-finishedWatched).UnixMilli()
	query := k.db.Read.WithContext(ctx).Table("sales").Joins("JOIN stock ON stock.sale_id = sales.id").
		Where("(sales.state <> ? AND sales.ends_at > ?) OR sales.updated_at > ?", inventory.Closed, since, since)
	if only != "" {
		query = query.Where("sales.id = ?", only)
	}
	err := query.Select("sales.*, stock.total AS total, stock.changes AS changes").Order("sales.id").Scan(&sales).Error
	return sales, err
}

func (k *Reconciler) reconcileLine(ctx context.Context, s saleAndTotal) error {
	view, err := k.lines.Of(s.ID).View(ctx)
	if err != nil {
		return err
	}
	// What keeps units from coming back keeps neither a stop nor a rebuild from the line.
	released := k.release(ctx, s.ID)
	return errors.Join(released, k.changeLine(ctx, s, view, released == nil))
}

// changeLine does what a line wants. One that still owes something is not dropped.
func (k *Reconciler) changeLine(ctx context.Context, s saleAndTotal, view queue.View, released bool) error {
	line := k.lines.Of(s.ID)
	// A line that exists is judged by the clock that admits to it. With this host's own, when that is far ahead, the
	// line of a running sale would be dropped.
	now := k.now()
	if view.Exists {
		now = view.Now
	}
	expired := s.Finished(now)
	switch {
	case expired && !view.Exists:
		return nil
	case expired && released && s.discardable(view, now):
		return line.Discard(ctx, view, s.Finished(now.Add(-deadLettersKept)))
	}
	cause, err := k.rebuildCause(ctx, s, view)
	if err != nil {
		return err
	}
	switch {
	case cause != "":
		return k.rebuildOf(ctx, s.ID, finding{epoch: s.Epoch, line: view.Epoch, running: s.RebuildUntil != 0,
			cause: cause})
	case view.Version < s.Version:
		settings := s.Settings(s.Total, k.capOf(s.Sale))
		settings.Ledger = s.Changes
		return line.Configure(ctx, settings)
	case !k.capFits(s.Sale, view.Cap):
		return unlessRebuilding(line.SetCap(ctx, view.Epoch, k.capOf(s.Sale)))
	}
	return nil
}

// discardable reports that nobody needs the line of a finished sale any more. What the ledger has lost stands in the
// line alone, and is put back first. Dead letters are kept for a while.
func (s saleAndTotal) discardable(v queue.View, now time.Time) bool {
	if v.Epoch != s.Epoch || !v.Verified || s.behind(v) || v.InFlight() {
		return false
	}
	return v.Dead == 0 || s.Finished(now.Add(-deadLettersKept))
}

// rebuildCause returns why a line must be rebuilt, "" when it need not be.
func (k *Reconciler) rebuildCause(ctx context.Context, s saleAndTotal, view queue.View) (cause string, err error) {
	switch {
	case !view.Exists:
		return causeMissing, nil
	case view.Rebuilding:
		return causeUnfinished, nil
	case !view.Verified:
		return causeServer, nil
	}
	if !s.behind(view) && view.Epoch == s.Epoch {
		return "", nil
	}
	// The sale was read before the line, which may have gone on since.
	var now saleAndTotal
	err = k.db.Write.WithContext(ctx).Table("sales").Joins("JOIN stock ON stock.sale_id = sales.id").
		Where("sales.id = ?", s.ID).
		Select("sales.*, stock.total AS total, stock.changes AS changes").Take(&now).Error
	switch {
	case err != nil:
		return "", fmt.Errorf("read sale %s again: %w", s.ID, err)
	case now.behind(view):
		return causeLedger, nil
	case now.Epoch != s.Epoch || view.Epoch == s.Epoch:
		return "", nil
	case view.Epoch < s.Epoch:
		return causeEpoch, k.checkElsewhere(ctx, s.ID, view)
	}
	return causeEpoch, nil
}

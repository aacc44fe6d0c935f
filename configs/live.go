package configs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway"
	"sluice/settings"
	"sluice/store"
)

// Live is the configuration while Sluice runs. Hot keys change by the file, by
// a signal and by operators; a change is checked as a whole and applied as a
// whole, or not at all. What operators set is in the database, counts above
// every other source and is followed by every instance within about a second.
// Nothing but another change of theirs undoes it: no file, nothing on the disk,
// no end of another change.
// Safe for concurrent use.
type Live struct {
	versions versions
	log      *slog.Logger
	now      func() time.Time
	metrics  *liveMetrics

	mu       sync.Mutex // one change at a time
	boot     *Loaded    // what this process started with
	base     *Loaded    // boot with the hot keys as the file has them now
	counts   *Loaded    // base with the overlay: what counts
	overlay  overlay    // of the newest version, without what has ended
	ended    bool       // something has that no version tells of yet
	left     []string   // keys of the overlay that this version of Sluice does not take
	version  versionRow // the newest that is known
	whole    int64      // the newest that counts here with all its keys
	digest   string     // of base
	tell     []func(Config)
	seen     [32]byte     // the file's content when it was last read
	last     glimpse      // the file at the last look
	away     string       // why the file cannot be read, as last told
	refused  string       // why the file as it is does not count; it is tried again
	unsaved  *reading     // a change by file that is not in the database yet
	unfit    string       // why keys are left out or do not fit each other, as last told
	troubled string       // why the database could not be asked, as last told
	clock    func() error // nil, or an error until the clock may be trusted
	known    atomic.Bool
	valid    atomic.Bool // the file, as far as there is one
	applied  atomic.Pointer[applied]
	ends     atomic.Pointer[overlay] // the overlay, for Until
}

// applied is what Version tells without waiting for a change under way.
type applied struct {
	version int64
	digest  string
}

// NewLive starts with what was loaded. now should be the clock that all
// instances share.
func NewLive(boot *Loaded, db *store.DB, log *slog.Logger, now func() time.Time, reg prometheus.Registerer) *Live {
	l := &Live{versions: versions{db}, log: log, now: now, boot: boot, base: boot, counts: boot,
		version: noVersion(), digest: boot.digest(), seen: boot.content, last: glimpse{content: boot.content}}
	l.ends.Store(new(overlay))
	l.valid.Store(true)
	l.note()
	l.metrics = newLiveMetrics(reg, l)
	return l
}

// OnChange calls apply with the configuration that counts, at the next Sync
// and after every change. apply must not fail and should be quick.
func (l *Live) OnChange(apply func(Config)) { l.tell = append(l.tell, apply) }

// Config is what counts now.
func (l *Live) Config() Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts.Config
}

// Version is the number of the newest version all of which counts here, and
// the digest of the hot keys in this process' file.
func (l *Live) Version() (int64, string) {
	a := l.applied.Load()
	return a.version, a.digest
}

// Until is when what counts of a key for one sale ends, whether that was set
// for the sale or for all; sale is empty for a key that knows none. It is zero
// when it counts for good. It may be called while a change is told.
func (l *Live) Until(key, sale string) time.Time { return l.ends.Load().endFor(key, sale) }

func (l *Live) note() { l.applied.Store(&applied{l.whole, l.digest}) }

// Known returns settings.ErrUnknown until what operators have set was read once. Nothing
// may be admitted or drained before: it may be what they have stopped.
func (l *Live) Known() error {
	if l.known.Load() {
		return nil
	}
	return settings.ErrUnknown
}

// Sync applies what the database holds, whether or not it has changed. After
// an error what was configured outside of it counts; see Known.
func (l *Live) Sync(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	row, err := l.versions.latest(ctx)
	if err == nil {
		err = l.adopt(row)
	}
	if err != nil {
		l.put(l.base)
		l.trouble(err)
	}
	return err
}

// AdoptAfter lets what operators have set be adopted for the first time once clock returns nil. By a wrong clock a stop
// would seem to be over, and would be ended for all. Call it before anything else.
func (l *Live) AdoptAfter(clock func() error) { l.clock = clock }

// adopt takes over a version of the database.
func (l *Live) adopt(row versionRow) error {
	if l.clock != nil && !l.known.Load() {
		if err := l.clock(); err != nil {
			return fmt.Errorf("%w: %w", settings.ErrUnknown, err)
		}
	}
	stored, err := parseOverlay(row.Overlay)
	if err != nil {
		return fmt.Errorf("version %d: %w", row.Version, err)
	}
	l.version = row
	l.overlay = stored.at(l.now())
	l.ended = len(l.overlay) < len(stored)
	l.settle()
	l.known.Store(true)
	return nil
}

// settle makes the base with the overlay count.
func (l *Live) settle() {
	counts, left, err := l.base.over(l.overlay)
	l.left = left
	if err == nil {
		l.whole = l.version.Version
	}
	l.complain(err, errors.Join(counts.misfits()...))
	l.put(counts)
}

// complain tells once of what is left out and of what does not fit.
func (l *Live) complain(left, misfit error) {
	unfit := ""
	if all := errors.Join(left, misfit); all != nil {
		unfit = all.Error()
	}
	if unfit == l.unfit {
		return
	}
	l.unfit = unfit
	if left != nil {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("operators have set what this version of Sluice does not take: it does not count here",
			"version", l.version.Version, "keys", l.left, "error", left)
	}
	if misfit != nil {
		l.log.Warn("the file and what operators have set do not fit each other: both count, a cap before its lower bound",
			"error", misfit)
	}
}

// put makes a checked configuration count.
func (l *Live) put(counts *Loaded) {
	l.counts = counts
	l.ends.Store(new(l.overlay))
	for _, apply := range l.tell {
		apply(counts.Config)
	}
	l.note() // last: whoever sees the version may rely on what it says
}

// Change implements gateway.Settings.
func (l *Live) Change(ctx context.Context, c settings.Change) error {
	return l.decide(ctx, c.By.IfVersion, mostTries, func() error {
		change, err := l.entries(c)
		if err != nil {
			return l.refuse(c.By, err)
		}
		return l.store(ctx, "admin", l.overlay.with(change...), c.By)
	})
}

// fresh makes this instance know the newest version and compares it with the
// one a change was decided on.
func (l *Live) fresh(ctx context.Context, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	l.lapse()
	if want != settings.AnyVersion && want != l.version.Version {
		return settings.ErrVersion
	}
	return nil
}

// lapse ends what counted for a time, without asking anybody.
func (l *Live) lapse() {
	left := l.overlay.at(l.now())
	if len(left) == len(l.overlay) {
		return
	}
	was := l.counts
	l.overlay, l.ended = left, true
	l.settle()
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("a change for a time has ended", "keys", differing(was, l.counts, Hot))
}

var _ gateway.Settings = (*Live)(nil)

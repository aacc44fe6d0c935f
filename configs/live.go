package configs

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway"
	"sluice/inventory"
	"sluice/store"
)

// Live is the configuration while Sluice runs. Hot keys change by the file, by
// a signal and by operators; a change is checked as a whole and applied as a
// whole, or not at all. What operators set is in the database, counts above
// every other source and is followed by every instance within about a second.
// Where the rest of an instance's configuration does not fit what operators
// have set, the keys count there that fit: the switches always do.
// Safe for concurrent use.
type Live struct {
	versions versions
	log      *slog.Logger
	now      func() time.Time
	metrics  *liveMetrics

	mu       sync.Mutex // one change at a time
	boot     *Loaded    // what this process started with
	base     *Loaded    // boot with the hot keys as the file has them now
	counts   *Loaded    // base with what fits of the overlay: what counts
	overlay  overlay    // of the newest version, without what has ended
	ended    bool       // something has that no version tells of yet
	left     []string   // keys of the overlay that do not fit here
	version  versionRow // the newest that is known
	whole    int64      // the newest that counts here with all its keys
	digest   string     // of base
	tell     []func(Config)
	seen     [32]byte // the file's content when it was last looked at
	refused  string   // why the file as it is does not count; it is tried again
	unsaved  *reading // a change by file that is not in the database yet
	unfit    string   // why keys are left out, as last told
	troubled string   // why the database could not be asked, as last told
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
		version: noVersion(), digest: boot.digest(), seen: boot.content}
	l.ends.Store(new(overlay))
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

// Sync applies what the database holds, whether or not it has changed. After
// an error what was configured outside of it counts.
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

// adopt takes over a version of the database.
func (l *Live) adopt(row versionRow) error {
	stored, err := parseOverlay(row.Overlay)
	if err != nil {
		return err
	}
	l.version = row
	l.overlay = stored.at(l.now())
	l.ended = len(l.overlay) < len(stored)
	l.settle()
	return nil
}

// settle makes count what fits of the base and the overlay.
func (l *Live) settle() {
	counts, left, err := l.base.fit(l.overlay)
	l.left = left
	if err == nil {
		l.whole, l.unfit = l.version.Version, ""
	} else if l.unfit != err.Error() {
		l.unfit = err.Error()
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("what operators have set does not fit the rest of this configuration: some keys do not count here", "version", l.version.Version,
			"keys", left, "error", err)
	}
	l.put(counts)
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
func (l *Live) Change(ctx context.Context, c gateway.SettingsChange) error {
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
	if want != gateway.AnyVersion && want != l.version.Version {
		return gateway.ErrVersion
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

// entries reads a change in the form in which it is stored.
func (l *Live) entries(c gateway.SettingsChange) (change []entry, err error) {
	var bad inventory.InvalidError
	var until int64
	if c.For > 0 {
		until = l.now().Add(c.For).UnixMilli()
	}
	for _, path := range slices.Sorted(maps.Keys(c.Set)) {
		k, part, err := l.hot(path)
		var value any
		if err == nil {
			value, err = k.stored(part, c.Set[path])
		}
		if err != nil {
			bad = append(bad, inventory.FieldError{Field: path, Detail: err.Error()})
		}
		change = append(change, entry{Key: k.path, Part: part, Value: value, Until: until})
	}
	for _, path := range c.Unset {
		k, part, err := l.hot(path)
		if err == nil && part != "" {
			err = errors.New("is a part of a key: set it, or unset the key")
		}
		if _, both := c.Set[path]; both {
			err = errors.New("is both set and unset")
		}
		if err != nil {
			bad = append(bad, inventory.FieldError{Field: path, Detail: err.Error()})
		}
		change = append(change, entry{Key: k.path, Until: until})
	}
	if len(change) == 0 {
		bad = append(bad, inventory.FieldError{Field: "set", Detail: "names no key to change"})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return change, nil
}

// hot finds a key that may change, and the part of it that a path names.
func (l *Live) hot(path string) (key, string, error) {
	k, part, ok := l.boot.schema.find(path)
	switch {
	case !ok:
		return k, "", errors.New("is not a key")
	case !Hot(k.path):
		return k, "", errors.New("needs a restart: change the file and restart")
	}
	return k, part, nil
}

var _ gateway.Settings = (*Live)(nil)

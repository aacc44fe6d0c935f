package configs

import (
	"context"
	"encoding/json"
	"log/slog"
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
// Safe for concurrent use.
type Live struct {
	versions versions
	log      *slog.Logger
	now      func() time.Time
	metrics  *liveMetrics

	mu      sync.Mutex // one change at a time
	boot    *Loaded    // what this process started with
	base    *Loaded    // boot with the hot keys as the file has them now
	counts  *Loaded    // base with the overlay: what counts
	overlay overlay
	version versionRow // the newest that is applied
	digest  string     // of base
	tell    []func(Config)
	seen    [32]byte // the file's content when it was last looked at
	unsaved string   // the source of a change by file that is not in the database yet
	refused string   // why the newest version could not be applied, as last logged
	applied atomic.Pointer[applied]
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
		overlay: overlay{}, version: versionRow{Overlay: "{}"}, digest: boot.digest()}
	l.note()
	l.metrics = newLiveMetrics(reg, l)
	l.seen, _ = l.fingerprint()
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

// Version is the number of the newest version applied, and the digest of the
// hot keys in this process' file.
func (l *Live) Version() (int64, string) {
	a := l.applied.Load()
	return a.version, a.digest
}

func (l *Live) note() { l.applied.Store(&applied{l.version.Version, l.digest}) }

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
	}
	return err
}

// adopt applies a version of the database over the base.
func (l *Live) adopt(row versionRow) error {
	o, err := parseOverlay(row.Overlay)
	if err != nil {
		return err
	}
	o, _ = o.at(l.now())
	counts, err := l.base.over(o)
	if err != nil {
		return err
	}
	l.overlay, l.version, l.refused = o, row, ""
	l.put(counts)
	return nil
}

// put makes a checked configuration count.
func (l *Live) put(counts *Loaded) {
	l.counts = counts
	for _, apply := range l.tell {
		apply(counts.Config)
	}
	l.note() // last: whoever sees the version may rely on what it says
}

// Change implements gateway.Settings.
func (l *Live) Change(ctx context.Context, c gateway.SettingsChange) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fresh(ctx, c.By.IfVersion); err != nil {
		return err
	}
	set, err := l.acceptable(c)
	if err != nil {
		return err
	}
	var until time.Time
	if c.For > 0 {
		until = l.now().Add(c.For)
	}
	return l.store(ctx, "admin", l.overlay.with(set, c.Unset, until), c.By)
}

// fresh makes this instance know the newest version and compares it with the
// one a change was decided on.
func (l *Live) fresh(ctx context.Context, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	row, err := l.versions.latest(ctx)
	if err != nil {
		return err
	}
	if row.Version != l.version.Version {
		if err := l.adopt(row); err != nil {
			return err
		}
	}
	if want != gateway.AnyVersion && want != row.Version {
		return gateway.ErrVersion
	}
	return nil
}

// acceptable reads the values of a change in the form they are stored in.
func (l *Live) acceptable(c gateway.SettingsChange) (map[string]any, error) {
	var bad inventory.InvalidError
	set := make(map[string]any, len(c.Set))
	check := func(path string) (key, bool) {
		k, ok := l.boot.schema.byPath[path]
		switch {
		case !ok:
			bad = append(bad, inventory.FieldError{Field: path, Detail: "is not a key"})
		case !Hot(path):
			bad = append(bad, inventory.FieldError{Field: path, Detail: "needs a restart: change the file and restart"})
		}
		return k, ok && Hot(path)
	}
	for path, raw := range c.Set {
		k, ok := check(path)
		if !ok {
			continue
		}
		value, err := k.decode(raw)
		if err != nil {
			bad = append(bad, inventory.FieldError{Field: path, Detail: err.Error()})
			continue
		}
		set[path] = k.visible(value)
	}
	for _, path := range c.Unset {
		check(path)
	}
	if len(c.Set)+len(c.Unset) == 0 {
		bad = append(bad, inventory.FieldError{Field: "set", Detail: "names no key to change"})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return set, nil
}

// store checks an overlay, keeps it as the next version and applies it.
func (l *Live) store(ctx context.Context, source string, o overlay, by gateway.SettingsAuthor) error {
	counts, err := l.base.over(o)
	if err != nil {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		return l.invalid(err)
	}
	row := l.row(source, o, counts, by)
	if err := l.versions.add(ctx, row, "config."+source, l.before()); err != nil {
		return err
	}
	l.log.Info("configuration changed", "version", row.Version, "source", source, "actor", by.Actor, "keys", differing(l.counts, counts, Hot))
	l.overlay, l.version = o, row
	l.put(counts)
	l.metrics.reloads.WithLabelValues("applied").Inc()
	return nil
}

func (l *Live) row(source string, o overlay, counts *Loaded, by gateway.SettingsAuthor) versionRow {
	effective, _ := json.Marshal(counts.effective()) // numbers, texts, lists and maps of them
	return versionRow{Version: l.version.Version + 1, At: l.now().UnixMilli(), Actor: by.Actor, Source: source, Reason: by.Reason,
		Digest: l.digest, Overlay: o.String(), Effective: string(effective)}
}

// invalid names each key that a check has refused.
func (l *Live) invalid(err error) error {
	var bad inventory.InvalidError
	for _, e := range split(err) {
		bad = append(bad, inventory.FieldError{Field: l.boot.schema.keyOf(e.Error()), Detail: e.Error()})
	}
	return bad
}

// Revert implements gateway.Settings.
func (l *Live) Revert(ctx context.Context, to int64, prefix string, by gateway.SettingsAuthor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fresh(ctx, by.IfVersion); err != nil {
		return err
	}
	if to == 0 {
		to = l.version.Version - 1
	}
	o, err := l.asOf(ctx, to, prefix)
	if err != nil {
		return err
	}
	return l.store(ctx, "revert", o, by)
}

var _ gateway.Settings = (*Live)(nil)

// Package live makes what operators set count in a running process. Hot keys
// change by the configuration file, by a signal and by operators.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/configs"
	"sluice/settings"
	"sluice/store"
)

// Settings is the configuration of a running process. A change is checked and
// applied as a whole, or not at all. What operators set is in the database,
// counts above every other source and reaches every instance within about a
// second. Only another change of theirs undoes it: no file, nothing on the
// disk, no end of another change. Safe for concurrent use.
type Settings struct {
	versions settings.Versions
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics

	mu          sync.Mutex          // one change at a time
	started     *configs.Loaded     // what this process started with
	base        *configs.Loaded     // started, with the hot keys as the file has them now
	effective   *configs.Loaded     // base with the overrides: what counts
	overrides   settings.Overrides  // of the newest version, without those that have expired
	expired     bool                // some have, and no version tells of it yet
	leftOut     []string            // overridden keys that this version of Sluice does not take
	version     settings.VersionRow // the newest that is known
	complete    int64               // the newest that counts here with all its keys
	digest      string              // of base
	listeners   []func(configs.Config)
	seen        [32]byte          // the file's content when it was last read
	lastLook    configs.FileState // the file at the last look
	fileError   string            // why the file cannot be read, as last logged
	refused     string            // why the file as it is does not count; it is tried again
	unsaved     *reload           // a change by file that is not in the database yet
	complaint   string            // why keys are left out or do not fit each other, as last logged
	followError string            // why the database could not be asked, as last logged
	clockReady  func() error      // nil, or an error until the clock may be trusted

	known     atomic.Bool // what operators have set was read once
	fileValid atomic.Bool // the file, as far as there is one
	published atomic.Pointer[published]
	current   atomic.Pointer[settings.Overrides] // for Until
}

// published is what Version returns without waiting for a change under way.
type published struct {
	version int64
	digest  string
}

// New starts with what was loaded. now should be the clock that all instances share.
func New(
	started *configs.Loaded, db *store.DB, log *slog.Logger, now func() time.Time, reg prometheus.Registerer,
) *Settings {
	l := &Settings{
		versions: settings.Versions{DB: db}, log: log, now: now,
		started: started, base: started, effective: started, version: settings.NoVersion(), digest: started.Digest(),
		seen: started.Content(), lastLook: configs.FileState{Content: started.Content()},
	}
	l.current.Store(new(settings.Overrides))
	l.fileValid.Store(true)
	l.publishVersion()
	l.metrics = newMetrics(reg, l)
	return l
}

// OnChange calls apply with the configuration that counts, at the next Sync
// and after every change. apply must not fail and should be quick.
func (l *Settings) OnChange(apply func(configs.Config)) { l.listeners = append(l.listeners, apply) }

// AdoptAfter delays the first reading of what operators have set until clockReady returns nil. By a wrong clock a
// stop would seem to be over, and would be ended for all. Call it before anything else.
func (l *Settings) AdoptAfter(clockReady func() error) { l.clockReady = clockReady }

// Config returns what counts now.
func (l *Settings) Config() configs.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.effective.Config
}

// Version returns the number of the newest version all of which counts here,
// and the digest of the hot keys in this process' file.
func (l *Settings) Version() (int64, string) {
	p := l.published.Load()
	return p.version, p.digest
}

// Until returns when what counts of a key for one sale ends, whether that was
// set for the sale or for all; zero: never. sale is empty for a key that knows
// none. It may be called while a change is applied.
func (l *Settings) Until(key, sale string) time.Time { return l.current.Load().UntilFor(key, sale) }

// Known returns settings.ErrUnknown until what operators have set was read
// once. Nothing may be admitted or drained before: it may be what they have stopped.
func (l *Settings) Known() error {
	if l.known.Load() {
		return nil
	}
	return settings.ErrUnknown
}

// Sync applies what the database holds, whether or not it has changed. After
// an error what was configured outside of it counts; see Known.
func (l *Settings) Sync(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	row, err := l.versions.Latest(ctx)
	if err == nil {
		err = l.adopt(row)
	}
	if err != nil {
		l.publish(l.base)
		l.logFollowError(err)
	}
	return err
}

// Versions lists what was changed, newest first, older than before when that is not 0.
func (l *Settings) Versions(ctx context.Context, before int64, limit int) ([]settings.Version, error) {
	return l.versions.List(ctx, before, limit)
}

// Show returns what counts in this process, the newest version included. While
// the database does not answer, that is the newest this process knows.
func (l *Settings) Show(ctx context.Context) settings.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx, settings.AnyVersion); err != nil {
		l.log.Warn("shown is the configuration as it was known last", "error", err)
	}
	keys := l.started.Keys()
	view := settings.View{Version: l.version.Shown(), File: l.digest, LeftOut: l.leftOut,
		Keys: make([]settings.Setting, len(keys))}
	for i, k := range keys {
		view.Keys[i] = l.show(k)
	}
	return view
}

// adopt takes over a version of the database.
func (l *Settings) adopt(row settings.VersionRow) error {
	if l.clockReady != nil && !l.known.Load() {
		if err := l.clockReady(); err != nil {
			return fmt.Errorf("%w: %w", settings.ErrUnknown, err)
		}
	}
	stored, err := settings.ParseOverrides(row.Overlay)
	if err != nil {
		return fmt.Errorf("version %d: %w", row.Version, err)
	}
	l.version = row
	l.overrides = stored.At(l.now())
	l.expired = len(l.overrides) < len(stored)
	l.recompute()
	l.known.Store(true)
	return nil
}

// recompute makes the base with the overrides count.
func (l *Settings) recompute() {
	effective, leftOut, err := overlayAll(l.base, l.overrides)
	l.leftOut = leftOut
	if err == nil {
		l.complete = l.version.Version
	}
	l.complain(err, errors.Join(misfits(effective)...))
	l.publish(effective)
}

// complain logs once what is left out and what does not fit.
func (l *Settings) complain(leftOut, misfit error) {
	complaint := ""
	if all := errors.Join(leftOut, misfit); all != nil {
		complaint = all.Error()
	}
	if complaint == l.complaint {
		return
	}
	l.complaint = complaint
	if leftOut != nil {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("operators have set what this version of Sluice does not take: it does not count here",
			"version", l.version.Version, "keys", l.leftOut, "error", leftOut)
	}
	if misfit != nil {
		l.log.Warn(
			"the file and what operators have set do not fit each other: both count, a cap before its lower bound",
			"error", misfit)
	}
}

// publish makes a checked configuration count.
func (l *Settings) publish(effective *configs.Loaded) {
	l.effective = effective
	l.current.Store(new(l.overrides))
	for _, apply := range l.listeners {
		apply(effective.Config)
	}
	l.publishVersion() // last: whoever sees the version may rely on what it says
}

func (l *Settings) publishVersion() { l.published.Store(&published{l.complete, l.digest}) }

// expire ends what counted for a time, without asking anybody.
func (l *Settings) expire() {
	left := l.overrides.At(l.now())
	if len(left) == len(l.overrides) {
		return
	}
	was := l.effective
	l.overrides, l.expired = left, true
	l.recompute()
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("a change for a time has ended", "keys", was.Differing(l.effective, configs.Hot))
}

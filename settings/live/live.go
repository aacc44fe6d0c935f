// Package live applies changes of the configuration in a running process. Hot keys change by the configuration file, by
// a signal and by operators.
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

// Settings is the configuration of a running process. A change is checked and applied as a whole, or not at all.
// Overrides are in the database, outrank every other source and reach every instance within about a second. Only
// operators undo them: no file, nothing on the disk, no end of another change. Safe for concurrent use.
type Settings struct {
	versions settings.Versions
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics

	mu          sync.Mutex          // one change at a time
	started     *configs.Loaded     // as this process started
	base        *configs.Loaded     // started, with the file's present hot keys
	effective   *configs.Loaded     // base with the overrides: the configuration in force
	overrides   settings.Overrides  // of the newest version, without those that have expired
	expired     bool                // some have expired and no version records that yet
	leftOut     []string            // overridden keys whose values this version of Sluice does not accept
	version     settings.VersionRow // the newest that this instance has read
	complete    int64               // the newest that is applied here with all its keys
	digest      string              // of base
	listeners   []func(configs.Config)
	seen        [32]byte          // hash of the file's content when it was last read
	lastLook    configs.FileState // the file when it was last checked
	fileError   string            // why the file cannot be read, as last logged
	refused     string            // why the file's content is not applied; it is tried again
	unsaved     *reload           // a change by file that is not stored yet
	complaint   string            // why keys are left out or contradict each other, as last logged
	followError string            // why the database could not be read, as last logged
	clockReady  func() error      // returns an error until the clock can be trusted; may be nil

	known     atomic.Bool // what operators have set was read once
	fileValid atomic.Bool // true without a file
	published atomic.Pointer[published]
	current   atomic.Pointer[settings.Overrides] // for Until
}

// published is what Version returns, without waiting for a change in progress.
type published struct {
	version int64
	digest  string
}

// New returns Settings with the loaded configuration in force. now should be a clock that all instances share.
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

// OnChange registers apply. It gets the configuration in force at the next Sync and after every change. It must not
// fail and should be quick.
func (l *Settings) OnChange(apply func(configs.Config)) { l.listeners = append(l.listeners, apply) }

// AdoptAfter delays the first reading of overrides until clockReady returns nil. With a wrong clock, a stop could seem
// expired and would end for all. Call it before anything else.
func (l *Settings) AdoptAfter(clockReady func() error) { l.clockReady = clockReady }

// Config returns the configuration in force.
func (l *Settings) Config() configs.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.effective.Config
}

// Version returns the number of the newest version that is fully applied here. It also returns the digest of the hot
// keys in this process' file.
func (l *Settings) Version() (int64, string) {
	p := l.published.Load()
	return p.version, p.digest
}

// Until returns when the present value of a key for one sale ends, or zero for never. It may have been set for the sale
// or for all; sale is empty for a key without sales. It may be called while a change is applied.
func (l *Settings) Until(key, sale string) time.Time { return l.current.Load().UntilFor(key, sale) }

// Ready returns settings.ErrUnknown until the overrides were read at least once. Nothing may be admitted or drained
// before, because operators may have stopped it.
func (l *Settings) Ready() error {
	if l.known.Load() {
		return nil
	}
	return settings.ErrUnknown
}

// Sync applies the newest version of the database, even if it has not changed. After an error the other sources are in
// force; see Ready.
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

// Versions lists changes, newest first: those before a version, or all when before is 0.
func (l *Settings) Versions(ctx context.Context, before int64, limit int) ([]settings.Version, error) {
	return l.versions.List(ctx, before, limit)
}

// Show returns the configuration in force in this process, with the newest version that it can read.
func (l *Settings) Show(ctx context.Context) settings.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(ctx, settings.AnyVersion); err != nil {
		l.log.Warn("shown is the configuration as it was known last", "error", err)
	}
	keys := l.started.Keys()
	view := settings.View{Version: l.version.Summary(), File: l.digest, LeftOut: l.leftOut,
		Keys: make([]settings.Setting, len(keys))}
	for i, k := range keys {
		view.Keys[i] = l.show(k)
	}
	return view
}

// adopt applies a version of the database.
func (l *Settings) adopt(row settings.VersionRow) error {
	if l.clockReady != nil && !l.known.Load() {
		if err := l.clockReady(); err != nil {
			return fmt.Errorf("%w: %w", settings.ErrUnknown, err)
		}
	}
	stored, err := settings.ParseOverrides(row.Overrides)
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

// recompute applies the base with the overrides.
func (l *Settings) recompute() {
	effective, leftOut, err := acceptAndApply(l.base, l.overrides)
	l.leftOut = leftOut
	if err == nil {
		l.complete = l.version.Version
	}
	l.logMisfits(err, errors.Join(misfits(effective)...))
	l.publish(effective)
}

// logMisfits logs once which keys are left out and which contradict each other.
func (l *Settings) logMisfits(leftOut, misfit error) {
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

// publish puts a checked configuration in force and calls the listeners.
func (l *Settings) publish(effective *configs.Loaded) {
	l.effective = effective
	l.current.Store(new(l.overrides))
	for _, apply := range l.listeners {
		apply(effective.Config)
	}
	l.publishVersion() // last: a reader of the version may rely on its values
}

func (l *Settings) publishVersion() { l.published.Store(&published{l.complete, l.digest}) }

// expire ends temporary changes whose time is over. It uses no store.
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

package live

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/configs"
	"sluice/settings"
)

// lookEvery is how often the file is read. Two readings must agree before the content is applied. Reading the content
// notices every kind of change: written in place, renamed over, or the link of a mounted ConfigMap.
const lookEvery = 500 * time.Millisecond

// followEvery is how often the database is asked for changes of other instances.
const followEvery = time.Second

// queryTimeout bounds one query, because changes wait for each other.
const queryTimeout = 5 * time.Second

// Run applies changes of the file and of other instances until ctx ends.
func (l *Settings) Run(ctx context.Context) {
	look, follow := time.NewTicker(lookEvery), time.NewTicker(followEvery)
	defer look.Stop()
	defer follow.Stop()
	for {
		select {
		case <-look.C:
			l.lookAtFile(ctx)
			continue
		case <-follow.C:
		case <-ctx.Done():
			return
		}
		if err := l.follow(ctx); err != nil && ctx.Err() == nil {
			l.mu.Lock()
			l.logFollowError(err)
			l.mu.Unlock()
		}
	}
}

// follow expires temporary changes, applies changes of other instances, and stores changes that could not be stored
// before.
func (l *Settings) follow(ctx context.Context) error {
	l.mu.Lock()
	l.expire() // works without the database
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	number, err := l.versions.LatestNumber(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if number != l.version.Version || !l.known.Load() {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
	}
	l.followError = ""
	if l.unsaved != nil {
		if err := l.save(ctx); err != nil {
			return err
		}
	}
	if !l.expired {
		return nil
	}
	by := settings.Author{Actor: settings.SystemActor, Reason: "its time was over"}
	err = l.add(ctx, "expiry", l.overrides, by)
	if errors.Is(err, settings.ErrVersion) {
		return nil // another instance has stored it; the next round applies it
	}
	return err
}

// catchUp applies the newest version.
func (l *Settings) catchUp(ctx context.Context) error {
	row, err := l.versions.Latest(ctx)
	if err != nil || l.known.Load() && row.Version == l.version.Version {
		return err // nothing is newer than what this instance has
	}
	if row.Version < l.version.Version {
		return l.restore(ctx, row)
	}
	if err := l.adopt(row); err != nil {
		return err
	}
	if len(l.leftOut) == 0 {
		l.metrics.reloads.WithLabelValues("applied").Inc()
	}
	l.log.Info("configuration followed", "version", row.Version, "source", row.Source, "actor", row.Actor)
	return nil
}

// restore stores this instance's newest version again. The database came back without its last commits, which may have
// included a stop.
func (l *Settings) restore(ctx context.Context, newest settings.VersionRow) error {
	err := l.versions.Add(ctx, l.version, "config.restore", l.stored(newest))
	if errors.Is(err, settings.ErrVersion) {
		return nil // another instance has stored it; the next round applies it
	}
	if err == nil {
		l.log.Error("the database had lost versions of the configuration: the newest that is known here was put back",
			"version", l.version.Version, "found", newest.Version)
	}
	return err
}

// logFollowError logs once why this instance cannot follow. The configuration stays valid meanwhile.
func (l *Settings) logFollowError(err error) {
	if err.Error() == l.followError {
		return
	}
	l.followError = err.Error()
	if errors.Is(err, settings.ErrUnreadable) {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
	}
	l.log.Warn("the configuration could not be followed", "error", err)
}

// show returns one key with its value in force.
func (l *Settings) show(k configs.Key) settings.Setting {
	path := k.Path()
	s := settings.Setting{Key: path, Value: k.Visible(l.effective.Value(k)), Source: l.effective.Source(path),
		Hot: configs.Hot(path)}
	if !slices.Contains(l.leftOut, path) {
		until := l.overrides.Until(path)
		s.Until = until[""]
		delete(until, "")
		s.UntilSale = until
	}
	return s
}

type metrics struct{ reloads *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer, l *Settings) *metrics {
	m := &metrics{reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_config_reload_total",
		Help: "Changes of the configuration while running: applied, unchanged or invalid."}, []string{"outcome"})}
	for _, outcome := range []string{"applied", "unchanged", "invalid"} {
		m.reloads.WithLabelValues(outcome)
	}
	fileValid := func() float64 {
		if l.fileValid.Load() {
			return 1
		}
		return 0
	}
	version := func() float64 {
		version, _ := l.Version()
		return float64(version)
	}
	reg.MustRegister(m.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_file_valid",
		Help: "0 while the configuration file cannot be read or is refused, so that what it said before counts; " +
			"else 1.",
	}, fileValid), prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_version",
		Help: "Newest version of the configuration all of which counts in this process."}, version))
	return m
}

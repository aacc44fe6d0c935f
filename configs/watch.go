package configs

import (
	"context"
	"errors"
	"time"

	"sluice/settings"

	"github.com/prometheus/client_golang/prometheus"
)

// lookEvery is how often the file is looked at: two looks must agree before its
// content counts. Looking at the content follows every way to change a file:
// written in place, renamed over, or the swapped link of a mounted ConfigMap.
const lookEvery = 500 * time.Millisecond

// followEvery bounds how late a change of another instance is noticed.
const followEvery = time.Second

// askMost bounds one question to the database: changes wait for each other.
const askMost = 5 * time.Second

// author of what no person does.
const author = "sluice"

// Run follows the file and the other instances until ctx ends.
func (l *Live) Run(ctx context.Context) {
	look, follow := time.NewTicker(lookEvery), time.NewTicker(followEvery)
	defer look.Stop()
	defer follow.Stop()
	for {
		select {
		case <-look.C:
			l.look(ctx)
			continue
		case <-follow.C:
		case <-ctx.Done():
			return
		}
		if err := l.follow(ctx); err != nil && ctx.Err() == nil {
			l.mu.Lock()
			l.trouble(err)
			l.mu.Unlock()
		}
	}
}

// follow ends what counted for a time, adopts what other instances have
// changed, and stores what could not be stored before.
func (l *Live) follow(ctx context.Context) error {
	l.mu.Lock()
	l.lapse() // also while the database is away
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	number, err := l.versions.number(ctx)
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
	l.troubled = ""
	if l.unsaved != nil {
		if err := l.save(ctx); err != nil {
			return err
		}
	}
	if !l.ended {
		return nil
	}
	err = l.add(ctx, "expiry", l.overlay, settings.Author{Actor: author, Reason: "its time was over"})
	if errors.Is(err, settings.ErrVersion) {
		return nil // another instance has done it; the next round follows
	}
	return err
}

// catchUp adopts the newest version.
func (l *Live) catchUp(ctx context.Context) error {
	row, err := l.versions.latest(ctx)
	if err != nil || l.known.Load() && row.Version == l.version.Version {
		return err // this instance has made it meanwhile
	}
	if row.Version < l.version.Version {
		return l.putBack(ctx, row)
	}
	if err := l.adopt(row); err != nil {
		return err
	}
	if len(l.left) == 0 {
		l.metrics.reloads.WithLabelValues("applied").Inc()
	}
	l.log.Info("configuration followed", "version", row.Version, "source", row.Source, "actor", row.Actor)
	return nil
}

// putBack stores the newest version again that is known here: the database came
// back without its last commits, and a stop may be among them.
func (l *Live) putBack(ctx context.Context, newest versionRow) error {
	err := l.versions.add(ctx, l.version, "config.restore", l.since(newest))
	if errors.Is(err, settings.ErrVersion) {
		return nil // another instance has done it; the next round follows
	}
	if err == nil {
		l.log.Error("the database had lost versions of the configuration: the newest that is known here was put back",
			"version", l.version.Version, "found", newest.Version)
	}
	return err
}

// trouble tells once of what keeps this instance from following. That a store
// is away makes no configuration invalid.
func (l *Live) trouble(err error) {
	if err.Error() == l.troubled {
		return
	}
	l.troubled = err.Error()
	if errors.Is(err, errUnreadable) {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
	}
	l.log.Warn("the configuration could not be followed", "error", err)
}

type liveMetrics struct{ reloads *prometheus.CounterVec }

func newLiveMetrics(reg prometheus.Registerer, l *Live) *liveMetrics {
	m := &liveMetrics{reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_config_reload_total",
		Help: "Changes of the configuration while running: applied, unchanged or invalid."}, []string{"outcome"})}
	for _, outcome := range []string{"applied", "unchanged", "invalid"} {
		m.reloads.WithLabelValues(outcome)
	}
	reg.MustRegister(m.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_file_valid",
		Help: "0 while the configuration file cannot be read or is refused, so that what it said before counts; else 1."}, func() float64 {
		if l.valid.Load() {
			return 1
		}
		return 0
	}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_version",
		Help: "Newest version of the configuration all of which counts in this process."}, func() float64 {
		version, _ := l.Version()
		return float64(version)
	}))
	return m
}

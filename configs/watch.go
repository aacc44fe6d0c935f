package configs

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway"
)

// lookEvery bounds how late a change of the file or of another instance is
// noticed. Looking at the content follows every way to change a file: written
// in place, renamed over, or the swapped link of a mounted ConfigMap.
const lookEvery = time.Second

// askMost bounds one question to the database: changes wait for each other.
const askMost = 5 * time.Second

// author of what no person does.
const author = "sluice"

// Run follows the file and the other instances until ctx ends.
func (l *Live) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		l.look(ctx)
		if err := l.follow(ctx); err != nil && ctx.Err() == nil {
			l.complain(err)
		}
	}
}

// look reads the file again when its content has changed.
func (l *Live) look(ctx context.Context) {
	now, err := l.fingerprint()
	l.mu.Lock()
	same := err != nil || now == l.seen // a file that is away for a moment is being replaced
	l.mu.Unlock()
	if !same {
		_, _ = l.reload(ctx, "file", gateway.SettingsAuthor{Actor: author, Reason: "the file has changed"}) // logged there
	}
}

func (l *Live) fingerprint() ([32]byte, error) {
	if l.boot.opts.File == "" {
		return [32]byte{}, nil
	}
	text, err := readLimited(l.boot.opts.FS, l.boot.opts.File)
	return sha256.Sum256(text), err
}

// Signalled reads the file again because the process was told to.
func (l *Live) Signalled(ctx context.Context) {
	_, _ = l.reload(ctx, "signal", gateway.SettingsAuthor{Actor: author, Reason: "SIGHUP"}) // logged there
}

// Reload implements gateway.Settings.
func (l *Live) Reload(ctx context.Context, by gateway.SettingsAuthor) (gateway.ReloadResult, error) {
	return l.reload(ctx, "file", by)
}

func (l *Live) reload(ctx context.Context, source string, by gateway.SettingsAuthor) (gateway.ReloadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, err := l.fingerprint(); err == nil {
		l.seen = now
	}
	fresh, err := l.boot.again()
	if err != nil {
		return l.keep(by, err)
	}
	result := gateway.ReloadResult{NeedsRestart: differing(l.boot, fresh, func(path string) bool { return !Hot(path) })}
	base := mixed(l.boot, fresh, Hot)
	counts, err := base.over(l.overlay)
	if err != nil {
		return l.keep(by, err)
	}
	if len(result.NeedsRestart) > 0 {
		l.log.Warn("keys of the file have changed that need a restart", "keys", result.NeedsRestart)
	}
	if len(differing(l.base, base, Hot)) == 0 {
		l.metrics.reloads.WithLabelValues("unchanged").Inc()
		return result, nil
	}
	result.Changed = differing(l.counts, counts, Hot)
	l.base, l.digest, l.unsaved = base, base.digest(), source
	l.put(counts)
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("configuration read again", "source", source, "actor", by.Actor, "keys", result.Changed)
	if err := l.save(ctx, by); err != nil {
		l.log.Warn("the change counts here but is not in the database yet", "error", err)
	}
	return result, nil
}

// keep says why the old values stay.
func (l *Live) keep(by gateway.SettingsAuthor, err error) (gateway.ReloadResult, error) {
	l.metrics.reloads.WithLabelValues("invalid").Inc()
	l.log.Error("the configuration was not changed", "actor", by.Actor, "error", err)
	return gateway.ReloadResult{}, l.invalid(unheaded(err))
}

// unheaded is the error of Load without its first line.
func unheaded(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "the configuration is not valid") {
		return inner
	}
	return err
}

// save makes a version of a change by file, unless another instance with the
// same file has made it already.
func (l *Live) save(ctx context.Context, by gateway.SettingsAuthor) error {
	for range 3 {
		row, err := l.versions.latest(ctx)
		if err != nil {
			return err
		}
		if row.Version != l.version.Version {
			if err := l.adopt(row); err != nil {
				return err
			}
		}
		if row.Digest == l.digest {
			l.unsaved = ""
			return nil
		}
		next := l.row(l.unsaved, l.overlay, l.counts, by)
		err = l.versions.add(ctx, next, "config."+l.unsaved, l.before())
		if err == nil {
			l.version, l.unsaved = next, ""
			l.note()
			return nil
		}
		if !errors.Is(err, gateway.ErrVersion) {
			return err
		}
	}
	return gateway.ErrVersion
}

// follow adopts what other instances have changed, ends what counted for a
// time, and stores what could not be stored before.
func (l *Live) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	number, err := l.versions.number(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if number != l.version.Version {
		row, err := l.versions.latest(ctx)
		if err != nil {
			return err
		}
		if err := l.adopt(row); err != nil {
			return err
		}
		l.metrics.reloads.WithLabelValues("applied").Inc()
		l.log.Info("configuration followed", "version", row.Version, "source", row.Source, "actor", row.Actor)
	}
	if l.unsaved != "" {
		if err := l.save(ctx, gateway.SettingsAuthor{Actor: author}); err != nil {
			return err
		}
	}
	left, ended := l.overlay.at(l.now())
	if !ended {
		return nil
	}
	err = l.store(ctx, "expiry", left, gateway.SettingsAuthor{Actor: author, Reason: "its time was over"})
	if errors.Is(err, gateway.ErrVersion) {
		return nil // another instance has done it; the next round follows
	}
	return err
}

// complain logs and counts a trouble that lasts once.
func (l *Live) complain(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err.Error() != l.refused {
		l.refused = err.Error()
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Warn("the configuration could not be followed", "error", err)
	}
}

type liveMetrics struct{ reloads *prometheus.CounterVec }

func newLiveMetrics(reg prometheus.Registerer, l *Live) *liveMetrics {
	m := &liveMetrics{reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_config_reload_total",
		Help: "Changes of the configuration while running: applied, unchanged or invalid."}, []string{"outcome"})}
	for _, outcome := range []string{"applied", "unchanged", "invalid"} {
		m.reloads.WithLabelValues(outcome)
	}
	reg.MustRegister(m.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_version",
		Help: "Newest version of the configuration that this process has applied."}, func() float64 {
		version, _ := l.Version()
		return float64(version)
	}))
	return m
}

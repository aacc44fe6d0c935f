package configs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/settings"
)

// reading is one reading of the file that has changed something.
type reading struct {
	source string
	by     settings.Author
}

// look reads the file again when two looks in a row have found the same new
// content, or when it did not count as it is: what was wrong may be gone.
func (l *Live) look(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.last
	now, err := l.boot.opts.look()
	l.last = now
	if now != before { // it is being replaced
		return
	}
	l.missing(err)
	changed := now.content != l.seen
	if err != nil || !changed && l.refused == "" {
		return
	}
	l.lapse()
	why := "the file has changed"
	if !changed {
		why = "the file is valid by now"
	}
	r := reading{"file", settings.Author{Actor: author, Reason: why}}
	_, _ = l.read(ctx, now.content, r, !changed) // logged there
}

// missing tells once that the file cannot be read, and once that it can again.
func (l *Live) missing(err error) {
	switch {
	case err != nil && l.away == "":
		l.away = err.Error()
		l.valid.Store(false)
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("the configuration file cannot be read: what counted before still counts", "error", err)
	case err == nil && l.away != "":
		l.away = ""
		l.valid.Store(l.refused == "")
		l.log.Info("the configuration file can be read again", "file", l.boot.opts.File)
	}
}

// Signalled reads the file again because the process was told to.
func (l *Live) Signalled(ctx context.Context) {
	_, _ = l.reload(ctx, reading{"signal", settings.Author{Actor: author, Reason: "SIGHUP"}}) // logged there
}

// Reload implements gateway.Settings.
func (l *Live) Reload(ctx context.Context, by settings.Author) (settings.ReloadResult, error) {
	return l.reload(ctx, reading{"file", by})
}

func (l *Live) reload(ctx context.Context, r reading) (settings.ReloadResult, error) {
	content, err := l.boot.opts.steady(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapse()
	if err != nil {
		return l.keep(r, fmt.Errorf("configuration file: %w", err), false)
	}
	return l.read(ctx, content, r, false)
}

// read reads the file, whose content must be the one given; again says that it
// was refused as it is, and needs no telling a second time.
func (l *Live) read(ctx context.Context, content [32]byte, r reading, again bool) (settings.ReloadResult, error) {
	l.seen = content
	fresh, err := l.boot.again()
	if err == nil && fresh.content != content {
		err = fmt.Errorf("configuration file: %s is being written", l.boot.opts.File)
	}
	if err != nil {
		return l.keep(r, err, again)
	}
	l.refused = ""
	l.valid.Store(true)
	result := settings.ReloadResult{NeedsRestart: differing(l.boot, fresh, func(path string) bool { return !Hot(path) })}
	if len(result.NeedsRestart) > 0 {
		l.log.Warn("keys of the file have changed that need a restart", "keys", result.NeedsRestart)
	}
	base := mixed(l.boot, fresh, Hot)
	changed := differing(l.base, base, Hot)
	if len(changed) == 0 {
		l.metrics.reloads.WithLabelValues("unchanged").Inc()
		return result, nil
	}
	was := l.counts
	l.base, l.digest, l.unsaved = base, base.digest(), &r
	l.settle()
	result.Changed = differing(was, l.counts, Hot)
	for _, key := range changed {
		if !slices.Contains(result.Changed, key) {
			result.Overridden = append(result.Overridden, key)
		}
	}
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("configuration read again", "source", r.source, "actor", r.by.Actor,
		"keys", result.Changed, "overridden", result.Overridden)
	if err := l.save(ctx); err != nil {
		l.log.Warn("the change counts here but is not in the database yet", "error", err)
	}
	return result, nil
}

// keep says why the old values stay.
func (l *Live) keep(r reading, err error, again bool) (settings.ReloadResult, error) {
	if !again || err.Error() != l.refused {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("the file was refused: what counted before still counts", "source", r.source, "actor", r.by.Actor, "error", err)
	}
	l.refused = err.Error()
	l.valid.Store(false)
	return settings.ReloadResult{}, l.invalid(unheaded(err))
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
func (l *Live) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askMost)
	defer cancel()
	for range 3 {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		if l.version.Digest == l.digest {
			l.unsaved = nil
			return nil
		}
		err := l.add(ctx, l.unsaved.source, l.overlay, l.unsaved.by)
		if err == nil {
			l.unsaved = nil
			return nil
		}
		if !errors.Is(err, settings.ErrVersion) {
			return err
		}
	}
	return settings.ErrVersion
}

package configs

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"

	"sluice/gateway"
)

// reading is one reading of the file that has changed something.
type reading struct {
	source string
	by     gateway.SettingsAuthor
}

// look reads the file again when its content has changed, or did not count when
// it was read: what it did not fit may be gone.
func (l *Live) look(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.fingerprint()
	changed := now != l.seen
	if err != nil || !changed && l.refused == "" { // a file that is away for a moment is being replaced
		return
	}
	l.lapse()
	why := "the file has changed"
	if !changed {
		why = "the file is valid by now"
	}
	_, _ = l.read(ctx, reading{"file", gateway.SettingsAuthor{Actor: author, Reason: why}}, !changed) // logged there
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
	_, _ = l.reload(ctx, reading{"signal", gateway.SettingsAuthor{Actor: author, Reason: "SIGHUP"}}) // logged there
}

// Reload implements gateway.Settings.
func (l *Live) Reload(ctx context.Context, by gateway.SettingsAuthor) (gateway.ReloadResult, error) {
	return l.reload(ctx, reading{"file", by})
}

func (l *Live) reload(ctx context.Context, r reading) (gateway.ReloadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapse()
	return l.read(ctx, r, false)
}

// read reads the file; again says that it was refused as it is, and needs no
// telling a second time.
func (l *Live) read(ctx context.Context, r reading, again bool) (gateway.ReloadResult, error) {
	if now, err := l.fingerprint(); err == nil {
		l.seen = now
	}
	fresh, err := l.boot.again()
	if err != nil {
		return l.keep(r, err, again)
	}
	l.seen = fresh.content
	result := gateway.ReloadResult{NeedsRestart: differing(l.boot, fresh, func(path string) bool { return !Hot(path) })}
	base := mixed(l.boot, fresh, Hot)
	if err := l.check(base, l.overlay); err != nil {
		return l.keep(r, err, again)
	}
	l.refused = ""
	if len(result.NeedsRestart) > 0 {
		l.log.Warn("keys of the file have changed that need a restart", "keys", result.NeedsRestart)
	}
	if len(differing(l.base, base, Hot)) == 0 {
		l.metrics.reloads.WithLabelValues("unchanged").Inc()
		return result, nil
	}
	was := l.counts
	l.base, l.digest, l.unsaved = base, base.digest(), &r
	l.settle()
	result.Changed = differing(was, l.counts, Hot)
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("configuration read again", "source", r.source, "actor", r.by.Actor, "keys", result.Changed)
	if err := l.save(ctx); err != nil {
		l.log.Warn("the change counts here but is not in the database yet", "error", err)
	}
	return result, nil
}

// keep says why the old values stay.
func (l *Live) keep(r reading, err error, again bool) (gateway.ReloadResult, error) {
	if !again || err.Error() != l.refused {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("the file was refused: what counted before still counts", "source", r.source, "actor", r.by.Actor, "error", err)
	}
	l.refused = err.Error()
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
		if !errors.Is(err, gateway.ErrVersion) {
			return err
		}
	}
	return gateway.ErrVersion
}

package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/configs"
	"sluice/settings"
)

// reload is one reading of the file, with its source and author.
type reload struct {
	source string
	by     settings.Author
}

// Reload reads the file of this process again.
func (l *Settings) Reload(ctx context.Context, by settings.Author) (settings.ReloadResult, error) {
	return l.reload(ctx, reload{"file", by})
}

// Signalled reads the file again because the process got a signal.
func (l *Settings) Signalled(ctx context.Context) {
	by := settings.Author{Actor: settings.SystemActor, Reason: "SIGHUP"}
	_, _ = l.reload(ctx, reload{"signal", by}) // logged there
}

func (l *Settings) reload(ctx context.Context, r reload) (settings.ReloadResult, error) {
	content, err := l.started.SteadyContent(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	if err != nil {
		return l.refuseFile(r, fmt.Errorf("configuration file: %w", err), false)
	}
	return l.read(ctx, content, r, false)
}

// lookAtFile reads the file again when two checks in a row found the same new content. It also retries a refused file,
// because the cause may be gone.
func (l *Settings) lookAtFile(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.lastLook
	now, err := l.started.FileState()
	l.lastLook = now
	if now != before { // it is being written
		return
	}
	l.logFileError(err)
	changed := now.Content != l.seen
	if err != nil || !changed && l.refused == "" {
		return
	}
	l.expire()
	why := "the file has changed"
	if !changed {
		why = "the file is valid by now"
	}
	r := reload{"file", settings.Author{Actor: settings.SystemActor, Reason: why}}
	_, _ = l.read(ctx, now.Content, r, !changed) // logged there
}

// logFileError logs once that the file cannot be read, and once that it can again.
func (l *Settings) logFileError(err error) {
	switch {
	case err != nil && l.fileError == "":
		l.fileError = err.Error()
		l.fileValid.Store(false)
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("the configuration file cannot be read: what counted before still counts", "error", err)
	case err == nil && l.fileError != "":
		l.fileError = ""
		l.fileValid.Store(l.refused == "")
		l.log.Info("the configuration file can be read again", "file", l.started.File())
	}
}

// read reads the file and applies it if its content still has the given hash. repeated says that this content was
// refused before, so that it is not logged twice.
func (l *Settings) read(
	ctx context.Context, content [32]byte, r reload, repeated bool,
) (result settings.ReloadResult, err error) {
	l.seen = content
	fresh, err := l.started.Reload()
	if err == nil && fresh.Content() != content {
		err = fmt.Errorf("configuration file: %s is being written", l.started.File())
	}
	if err != nil {
		return l.refuseFile(r, err, repeated)
	}
	l.refused = ""
	l.fileValid.Store(true)
	result.NeedsRestart = l.started.Differing(fresh, func(path string) bool { return !configs.Hot(path) })
	if len(result.NeedsRestart) > 0 {
		l.log.Warn("keys of the file have changed that need a restart", "keys", result.NeedsRestart)
	}
	base := l.started.WithHotOf(fresh)
	changed := l.base.Differing(base, configs.Hot)
	if len(changed) == 0 {
		l.metrics.reloads.WithLabelValues("unchanged").Inc()
		return result, nil
	}
	was := l.effective
	l.base, l.digest, l.unsaved = base, base.Digest(), &r
	l.recompute()
	result.Changed = was.Differing(l.effective, configs.Hot)
	result.Overridden = slices.DeleteFunc(changed, func(key string) bool {
		return slices.Contains(result.Changed, key)
	})
	if len(result.Overridden) == 0 {
		result.Overridden = nil
	}
	l.metrics.reloads.WithLabelValues("applied").Inc()
	l.log.Info("configuration read again", "source", r.source, "actor", r.by.Actor,
		"keys", result.Changed, "overridden", result.Overridden)
	if err := l.save(ctx); err != nil {
		l.log.Warn("the change counts here but is not in the database yet", "error", err)
	}
	return result, nil
}

// refuseFile records why the file's values are not applied.
func (l *Settings) refuseFile(r reload, err error, repeated bool) (settings.ReloadResult, error) {
	if !repeated || err.Error() != l.refused {
		l.metrics.reloads.WithLabelValues("invalid").Inc()
		l.log.Error("the file was refused: what counted before still counts",
			"source", r.source, "actor", r.by.Actor, "error", err)
	}
	l.refused = err.Error()
	l.fileValid.Store(false)
	return settings.ReloadResult{}, l.fieldErrors(withoutHeading(err))
}

// withoutHeading returns the error of configs.Load without its first line.
func withoutHeading(err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "the configuration is not valid") {
		return inner
	}
	return err
}

// save stores a change by file as a version, unless another instance with the same file has stored it.
func (l *Settings) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for range 3 {
		if err := l.catchUp(ctx); err != nil {
			return err
		}
		if l.version.Digest == l.digest {
			l.unsaved = nil
			return nil
		}
		err := l.add(ctx, l.unsaved.source, l.overrides, l.unsaved.by)
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

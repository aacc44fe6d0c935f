package configs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/gateway"
	"sluice/inventory"
)

// mostStored bounds what operators have set, and all hot keys, in bytes: an
// entry of the admin log holds both, and is MySQL's TEXT.
const mostStored = 32_000

// mostTries bounds how often a change is made anew because other instances
// were faster.
const mostTries = 20

// decide makes a change on the newest version, and on the one after that when
// another instance was faster; a change that was decided on one version is
// made on that alone.
func (l *Live) decide(ctx context.Context, want int64, tries int, change func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; ; tries-- {
		if err := l.fresh(ctx, want); err != nil {
			return err
		}
		err := change()
		if want != gateway.AnyVersion || tries <= 1 || !errors.Is(err, gateway.ErrVersion) {
			return err
		}
	}
}

// store checks an overlay, keeps it as the next version and makes it count.
func (l *Live) store(ctx context.Context, source string, next overlay, by gateway.SettingsAuthor) error {
	next, fits := next.fitting(mostStored)
	if !fits {
		return l.refuse(by, inventory.InvalidError{{Field: "set", Detail: fmt.Sprintf("makes all that is set longer than %d bytes: unset something first", mostStored)}})
	}
	next, err := parseOverlay(next.String()) // as every instance will read it
	if err != nil {
		return err
	}
	if err := l.check(l.base, next); err != nil {
		return l.refuse(by, l.invalid(err))
	}
	was := l.counts
	if err := l.add(ctx, source, next, by); err != nil {
		return err
	}
	l.log.Info("configuration changed", "version", l.version.Version, "source", source, "actor", by.Actor, "keys", differing(was, l.counts, Hot))
	l.metrics.reloads.WithLabelValues("applied").Inc()
	return nil
}

// add makes an overlay the next version, and count.
func (l *Live) add(ctx context.Context, source string, next overlay, by gateway.SettingsAuthor) error {
	counts, _, _ := l.base.fit(next)
	effective, _ := json.Marshal(counts.effective()) // numbers, texts, lists and maps of them
	row := versionRow{Version: l.version.Version + 1, At: l.now().UnixMilli(), Actor: by.Actor, Source: source, Reason: by.Reason,
		Digest: l.digest, Overlay: next.String(), Effective: string(effective)}
	if len(row.Effective) > mostStored {
		return l.refuse(by, inventory.InvalidError{{Field: "set", Detail: fmt.Sprintf("makes the hot keys longer than %d bytes", mostStored)}})
	}
	if err := l.versions.add(ctx, row, "config."+source, l.before()); err != nil {
		return err
	}
	l.version, l.overlay, l.ended = row, next, false
	l.settle()
	return nil
}

// check refuses a base and an overlay that do not fit each other, now or once
// something of the overlay has ended. A key that does not fit already, and stays
// as it is, is no reason: else nothing could be changed until it does.
func (l *Live) check(base *Loaded, o overlay) error {
	worse := func(key string) bool {
		return !slices.Contains(l.left, key) || o.of(key).String() != l.overlay.of(key).String()
	}
	for _, at := range append([]time.Time{l.now()}, o.ends()...) {
		_, left, err := base.fit(o.at(at))
		if !slices.ContainsFunc(left, worse) {
			continue
		}
		if at.After(l.now()) {
			return later(err, at)
		}
		return err
	}
	return nil
}

// later says when what is valid now would be valid no more.
func later(err error, at time.Time) error {
	var all []error
	for _, e := range split(err) {
		all = append(all, fmt.Errorf("%w, from %s on, when a change for a time ends", e, at.Format(time.RFC3339)))
	}
	return errors.Join(all...)
}

// refuse counts and logs a change that is not valid.
func (l *Live) refuse(by gateway.SettingsAuthor, err error) error {
	l.metrics.reloads.WithLabelValues("invalid").Inc()
	l.log.Warn("a change of the configuration was refused", "actor", by.Actor, "error", err)
	return err
}

// invalid names each key that a check has refused.
func (l *Live) invalid(err error) error {
	var bad inventory.InvalidError
	for _, e := range split(err) {
		bad = append(bad, inventory.FieldError{Field: l.boot.schema.keyOf(e.Error()), Detail: e.Error()})
	}
	return bad
}

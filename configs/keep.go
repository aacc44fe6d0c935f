package configs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/internal/invalid"
	"sluice/settings"
)

// mostStored bounds what operators have set, and what a version keeps of the
// hot keys, in bytes: an entry of the admin log holds both, and is MySQL's TEXT.
const mostStored = 32_000

// forStops is the part of it that is kept for the two switches: however much is
// set, they can be.
const forStops = 1_000

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
		if want != settings.AnyVersion || tries <= 1 || !errors.Is(err, settings.ErrVersion) {
			return err
		}
	}
}

// store checks an overlay, keeps it as the next version and makes it count.
func (l *Live) store(ctx context.Context, source string, next overlay, by settings.Author) error {
	most := l.room(next)
	next, fits := next.fitting(most)
	if !fits {
		why := fmt.Sprintf("makes all that is set longer than %d bytes: unset something first", most)
		return l.refuse(by, invalid.Error{{Field: "set", Detail: why}})
	}
	next, err := parseOverlay(next.String()) // as every instance will read it
	if err != nil {
		return err
	}
	if err := l.check(next); err != nil {
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

// room is how long an overlay may be, in bytes. One that makes what is set
// shorter is always short enough.
func (l *Live) room(next overlay) int {
	rest := func(o overlay) string { return o.without("gateway.admission", "queue.drain").String() }
	if rest(next) == rest(l.overlay) {
		return mostStored
	}
	return max(mostStored-forStops, len(l.overlay.String()))
}

// add makes an overlay the next version, and count.
func (l *Live) add(ctx context.Context, source string, next overlay, by settings.Author) error {
	counts, _, _ := l.base.over(next)
	row := versionRow{Version: l.version.Version + 1, At: l.now().UnixMilli(), Actor: by.Actor, Source: source, Reason: by.Reason,
		Digest: l.digest, Overlay: next.String(), Effective: counts.stored()}
	if err := l.versions.add(ctx, row, "config."+source, l.before()); err != nil {
		return err
	}
	l.version, l.overlay, l.ended = row, next, false
	l.settle()
	return nil
}

// check refuses an overlay with entries that this version does not take, or
// whose keys do not fit each other and the base, now or once something of it
// has ended. What is wrong already is no reason: else nothing could be changed
// until it is mended.
func (l *Live) check(next overlay) error {
	sound, _, errs := l.base.schema.sound(next)
	was, _, known := l.base.schema.sound(l.overlay)
	if err := unknown(errs, known); err != nil {
		return err
	}
	for _, at := range append([]time.Time{l.now()}, next.ends()...) {
		err := unknown(l.base.with(sound.at(at)).misfits(), l.base.with(was.at(at)).misfits())
		if err != nil && at.After(l.now()) {
			return later(err, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// misfits are the hot keys that do not fit each other.
func (l *Loaded) misfits() []error { return split(l.Config.checkHot()) }

// unknown joins the errors that are not among those known.
func unknown(errs, known []error) error {
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		return slices.ContainsFunc(known, func(k error) bool { return k.Error() == err.Error() })
	})...)
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
func (l *Live) refuse(by settings.Author, err error) error {
	l.metrics.reloads.WithLabelValues("invalid").Inc()
	l.log.Warn("a change of the configuration was refused", "actor", by.Actor, "error", err)
	return err
}

// invalid names each key that a check has refused.
func (l *Live) invalid(err error) error {
	var bad invalid.Error
	for _, e := range split(err) {
		bad = append(bad, invalid.Field{Field: l.boot.schema.keyOf(e.Error()), Detail: e.Error()})
	}
	return bad
}

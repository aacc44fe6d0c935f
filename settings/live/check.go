package live

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/configs"
	"sluice/internal/invalid"
	"sluice/settings"
)

// check refuses overrides that this version does not accept. It also refuses keys that contradict each other or the
// base, now or after an expiry. It ignores errors that exist already: else nothing could be changed until they are
// mended.
func (l *Settings) check(next settings.Overrides) error {
	accepted, _, errs := accept(l.base, next)
	was, _, known := accept(l.base, l.overrides)
	if err := newErrors(errs, known); err != nil {
		return err
	}
	for _, at := range append([]time.Time{l.now()}, next.Ends()...) {
		err := newErrors(misfits(applyOverrides(l.base, accepted.At(at))), misfits(applyOverrides(l.base, was.At(at))))
		if err != nil && at.After(l.now()) {
			return nameEnd(err, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newErrors joins the errors that are not among known.
func newErrors(errs, known []error) error {
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		return slices.ContainsFunc(known, func(k error) bool { return k.Error() == err.Error() })
	})...)
}

// nameEnd adds to an error the time from which it holds.
func nameEnd(err error, at time.Time) error {
	var all []error
	for _, e := range configs.SplitErrors(err) {
		all = append(all, fmt.Errorf("%w, from %s on, when a change for a time ends", e, at.Format(time.RFC3339)))
	}
	return errors.Join(all...)
}

// fieldErrors turns the errors of a check into an invalid.Error that names each key.
func (l *Settings) fieldErrors(err error) error {
	var bad invalid.Error
	for _, e := range configs.SplitErrors(err) {
		bad = append(bad, invalid.Field{Field: l.started.KeyOf(e.Error()), Detail: e.Error()})
	}
	return bad
}

// Package settings describes what operators change while Sluice runs: overrides, and the versions in which the database
// stores them. Package settings/live applies them in a process.
package settings

import (
	"errors"
	"slices"
	"time"
)

// Errors of a change.
var (
	ErrVersion   = errors.New("the configuration has another version by now")
	ErrNoVersion = errors.New("no such version of the configuration is kept")
	// ErrUnknown says that the overrides were not read yet, so that nothing may be admitted or drained.
	ErrUnknown = errors.New("what operators have set is not known yet")
)

// Author says who makes a change, why, and on which version it depends.
type Author struct {
	Actor, Reason string
	IfVersion     int64 // the version on which the change depends, or AnyVersion
}

// AnyVersion is the IfVersion of a change that depends on no version.
const AnyVersion = -1

// Change is one change of hot keys.
type Change struct {
	// Set has values by key. The keys limits.sales and queue.held may be set by sale, too, as in "limits.sales.phone"
	// and "queue.held.phone". A nil removes the sale's value.
	Set   map[string]any
	Unset []string      // back to flag, environment, file or default
	For   time.Duration // after that the earlier value returns; 0: no end
	By    Author
}

// View is the whole configuration with secrets masked.
type View struct {
	Version Version
	File    string   // digest of the hot keys in this process' file
	LeftOut []string // overridden keys without effect: this version of Sluice does not accept their values
	Keys    []Setting
}

// LeftOutAmong returns the keys of LeftOut that about selects.
func (v View) LeftOutAmong(about func(key string) bool) []string {
	return slices.DeleteFunc(slices.Clone(v.LeftOut), func(key string) bool { return !about(key) })
}

// Setting is one key with its value in force.
type Setting struct {
	Key       string
	Value     any
	Source    string // default, file NAME, env NAME, flag or admin
	Hot       bool
	Until     time.Time            // when a temporary change ends; else zero
	UntilSale map[string]time.Time // the same for values of single sales
}

// Version is one change that was made.
type Version struct {
	Version int64
	At      time.Time
	Actor   string
	Source  string // admin, revert, expiry, file or signal
	Reason  string
	Values  map[string]any // hot keys in force at the instance that made it; nil in a View
}

// ReloadResult says what a reload has changed.
type ReloadResult struct {
	Changed      []string // hot keys with a new value
	Overridden   []string // hot keys whose new value in the file has no effect: operators have set them
	NeedsRestart []string // other keys that have another value in the file
}

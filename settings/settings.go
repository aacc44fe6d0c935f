// Package settings holds what operators change while Sluice runs: the overrides they have set, and the versions
// in which the database keeps them. Package settings/live makes them count in a process.
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
	// ErrUnknown says that what operators have set was not read yet: nothing can be decided on it.
	ErrUnknown = errors.New("what operators have set is not known yet")
)

// Author says who asks for a change and why, and on what ground.
type Author struct {
	Actor, Reason string
	IfVersion     int64 // the version the change was decided on, or AnyVersion
}

// AnyVersion is the IfVersion of a change that shall be made whatever came before.
const AnyVersion = -1

// Change is one change of hot keys.
type Change struct {
	// Set holds values by key. The keys limits.sales and queue.held may be set by sale, too, as in
	// "limits.sales.phone" and "queue.held.phone"; nil takes away what was set for the sale.
	Set   map[string]any
	Unset []string      // back to flag, environment, file or default
	For   time.Duration // then back to what counted before; 0: for good
	By    Author
}

// View is the whole configuration with secrets masked.
type View struct {
	Version Version
	File    string   // digest of the hot keys in this process' file
	LeftOut []string // overridden keys that do not count here: this version of Sluice does not take their values
	Keys    []Setting
}

// LeftOutAmong returns those keys of LeftOut that about selects.
func (v View) LeftOutAmong(about func(key string) bool) []string {
	return slices.DeleteFunc(slices.Clone(v.LeftOut), func(key string) bool { return !about(key) })
}

// Setting is one key with what counts.
type Setting struct {
	Key       string
	Value     any
	Source    string // default, file NAME, env NAME, flag or admin
	Hot       bool
	Until     time.Time            // when a change for a time ends; else zero
	UntilSale map[string]time.Time // the same by sale, of what was set for a single one
}

// Version is one change that was made.
type Version struct {
	Version int64
	At      time.Time
	Actor   string
	Source  string // admin, revert, expiry, file or signal
	Reason  string
	Values  map[string]any // hot keys as they counted at the instance that made it; nil in a View
}

// ReloadResult is what reading the file again has brought.
type ReloadResult struct {
	Changed      []string // hot keys with another value
	Overridden   []string // hot keys with another value in the file that does not count: operators have set them
	NeedsRestart []string // other keys that have another value in the file
}

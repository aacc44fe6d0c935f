package gateway

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Settings is the configuration that changes while Sluice runs, as the
// operations listener needs it. Safe for concurrent use.
type Settings interface {
	// Show is what counts in this process, the newest version included; while
	// the database does not answer, the newest this process knows.
	Show(ctx context.Context) SettingsView
	// Change sets and unsets hot keys for all instances, all of them or none.
	// It returns ErrVersion, or an invalid.Error that names each key.
	Change(ctx context.Context, c SettingsChange) error
	// Revert brings back the hot keys under prefix as they were at version to, but for what was to end and has;
	// to 0 is the newest version that makes a difference to them. It returns ErrNoVersion when there is none.
	Revert(ctx context.Context, to int64, prefix string, by SettingsAuthor) error
	// Reload reads the file of this process again.
	Reload(ctx context.Context, by SettingsAuthor) (ReloadResult, error)
	// Versions lists what was changed, newest first, older than before when that is not 0.
	Versions(ctx context.Context, before int64, limit int) ([]SettingsVersion, error)
}

// Errors of a change.
var (
	ErrVersion   = errors.New("the configuration has another version by now")
	ErrNoVersion = errors.New("no such version of the configuration is kept")
	// ErrSettingsUnknown says that what operators have set was not read yet: nothing can be decided on it.
	ErrSettingsUnknown = errors.New("what operators have set is not known yet")
)

// SettingsAuthor says who asks for a change and why, and on what ground.
type SettingsAuthor struct {
	Actor, Reason string
	IfVersion     int64 // the version the change was decided on; AnyVersion does not care
}

// AnyVersion is the IfVersion of a change that shall be made whatever came before.
const AnyVersion = -1

// SettingsChange is one change of hot keys.
type SettingsChange struct {
	Set   map[string]any // by key; limits.sales and queue.held also by sale: "limits.sales.phone", "queue.held.phone", nil takes it away
	Unset []string       // back to flag, environment, file or default
	For   time.Duration  // then back to what counted before; 0: for good
	By    SettingsAuthor
}

// SettingsView is the whole configuration with secrets masked.
type SettingsView struct {
	Version SettingsVersion
	File    string   // digest of the hot keys in this process' file
	Left    []string // keys that operators have set and that do not count here: this version of Sluice does not take their values
	Keys    []Setting
}

// left are those keys of Left that an answer is about.
func (v SettingsView) left(about func(key string) bool) []string {
	return slices.DeleteFunc(slices.Clone(v.Left), func(key string) bool { return !about(key) })
}

// Setting is one key.
type Setting struct {
	Key    string
	Value  any
	Source string // default, file NAME, env NAME, flag or admin
	Hot    bool
	Until  time.Time // a change for a time ends then; else zero
	// UntilOf is the same by sale, of what was set for a single one.
	UntilOf map[string]time.Time
}

// noteUntil writes down under name when what counts for a time ends, and by sale under "name.SALE".
func (s Setting) noteUntil(ends map[string]string, name string) {
	if !s.Until.IsZero() {
		ends[name] = formatTime(s.Until)
	}
	for sale, at := range s.UntilOf {
		ends[name+"."+sale] = formatTime(at)
	}
}

// SettingsVersion is one change that was made.
type SettingsVersion struct {
	Version int64
	At      time.Time
	Actor   string
	Source  string // admin, revert, expiry, file or signal
	Reason  string
	Values  map[string]any // hot keys as they counted at the instance that made it; nil in a SettingsView
}

// ReloadResult is what reading the file again has brought.
type ReloadResult struct {
	Changed      []string // hot keys with another value
	Overridden   []string // hot keys with another value in the file, which does not count: operators have set them
	NeedsRestart []string // other keys that have another value in the file
}

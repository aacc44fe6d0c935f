package api

import "encoding/json"

// ConfigVersion says which version of the configuration counts, and who made it.
type ConfigVersion struct {
	Version int64  `json:"version"`
	At      string `json:"at,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Source  string `json:"source,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Setting is one key of the configuration.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source string `json:"source"`
	Hot    bool   `json:"hot"`
	Until  string `json:"until,omitempty"`
	// UntilOf is the same by sale, of what was set for a single one.
	UntilOf map[string]string `json:"until_of,omitempty"`
}

// Config is the whole configuration.
type Config struct {
	ConfigVersion
	File string `json:"file"`
	// Left are set by operators, but not taken by this instance's version of Sluice.
	Left []string  `json:"left_out,omitempty"`
	Keys []Setting `json:"keys"`
}

// ChangeNote is what every change of settings may carry beside its values.
type ChangeNote struct {
	For    string `json:"for"` // a duration, then back
	Reason string `json:"reason"`
}

// ConfigChange sets and unsets hot keys.
type ConfigChange struct {
	Set   map[string]any `json:"set"`
	Unset []string       `json:"unset"`
	ChangeNote
}

// ConfigRevert brings back an earlier version; 0 is the newest that makes a difference.
type ConfigRevert struct {
	To     int64  `json:"to"`
	Reason string `json:"reason"`
}

// ConfigVersions is a page of what was changed.
type ConfigVersions struct {
	Versions []ConfigVersionValues `json:"versions"`
	Next     int64                 `json:"next,omitempty"` // before for the next page; absent on the last
}

// ConfigVersionValues is one version with the hot keys as they counted.
type ConfigVersionValues struct {
	ConfigVersion
	Values map[string]any `json:"values"`
}

// Reload says what reading the file again has brought.
type Reload struct {
	Version      int64    `json:"version"`
	Changed      []string `json:"changed"`
	Overridden   []string `json:"overridden"` // changed in the file, but set by operators
	NeedsRestart []string `json:"needs_restart"`
}

// Limits are the limits that count.
type Limits struct {
	ConfigVersion
	Limits map[string]any `json:"limits"` // by key without "limits."
	// Until says when those that count for a time end; those of a single sale by "sales.ID".
	Until map[string]string `json:"until,omitempty"`
	Left  []string          `json:"left_out,omitempty"`
}

// LimitsChange is a merge patch: what is absent stays, null goes back to flag, environment, file or default. A sale's
// limits are replaced as a whole.
type LimitsChange struct {
	Limits map[string]any `json:"limits"`
	ChangeNote
}

// Switches say whether orders are taken in and worked off.
type Switches struct {
	Admission bool     `json:"admission"`
	Drain     bool     `json:"drain"`
	Held      []string `json:"held"` // sales whose lines are not drained
	// Until says when those that count for a time end: admission, drain, and sales by "held.ID".
	Until map[string]string `json:"until,omitempty"`
	Left  []string          `json:"left_out,omitempty"`
}

// SwitchChange turns a switch.
type SwitchChange struct {
	On   *bool  `json:"on"`
	Sale string `json:"sale"` // drain only: this sale's line
	ChangeNote
}

// LogLevel is how much is logged.
type LogLevel struct {
	Level string `json:"level"`
	Until string `json:"until,omitempty"`
}

// LogLevelChange asks for another log level.
type LogLevelChange struct {
	Level string `json:"level"`
	ChangeNote
}

// LogEntry is one change in the admin log.
type LogEntry struct {
	ID     int64           `json:"id"`
	At     string          `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	SaleID string          `json:"sale_id,omitempty"`
	Target string          `json:"target"`
	Reason string          `json:"reason"`
	Before json.RawMessage `json:"before"` // null: it was not there
	// After is null when it is gone; {"outcome":"unknown"}: nobody could say what came of it.
	After json.RawMessage `json:"after"`
}

// LogList is a page of the admin log.
type LogList struct {
	Entries    []LogEntry `json:"entries"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

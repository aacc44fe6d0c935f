package api

import (
	"time"

	"sluice/order/deadletter"
)

// Line is one line as operators see it.
type Line struct {
	Sale             string    `json:"sale"`
	Depth            int64     `json:"depth"`
	Capacity         int64     `json:"capacity"`
	OldestAgeSeconds float64   `json:"oldest_age_seconds"`
	Stock            int64     `json:"stock"`
	Isolated         int64     `json:"suspects"`
	LeasedBatches    int64     `json:"leased_batches"`
	Retrying         int64     `json:"retrying"`
	Dead             int64     `json:"dead"`
	Admitted         int64     `json:"admitted"`
	Served           int64     `json:"served"`
	Rebuilding       bool      `json:"rebuilding"`
	Rates            LineRates `json:"rates"`
	// Unread says in a list why the line could not be read; the numbers say nothing then.
	Unread string `json:"unread,omitempty"`
}

// LineRates is how a line moves, in orders a second.
type LineRates struct {
	Admitted float64  `json:"admitted_per_second"`
	Drained  float64  `json:"drained_per_second"`
	Refused  *float64 `json:"refused_per_second,omitempty"` // by all gateways; absent: not known
	Window   float64  `json:"window_seconds"`               // over which the first two were measured; 0: not yet
}

// LineList is a page of lines.
type LineList struct {
	Lines      []*Line `json:"lines"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// Lease is a batch that a worker holds.
type Lease struct {
	BatchID    string   `json:"batch_id"`
	Instance   string   `json:"instance,omitempty"` // whose worker holds it
	Tickets    int64    `json:"tickets"`
	Orders     []string `json:"orders"` // the first of them
	Deadline   string   `json:"deadline"`
	AgeSeconds float64  `json:"age_seconds"`
	Overdue    bool     `json:"overdue"` // its lease has run out: it is about to be taken over
}

// LeaseList is a page of leases.
type LeaseList struct {
	Leases []Lease `json:"leases"`
	Total  int64   `json:"total"`          // listed or not
	Next   int64   `json:"next,omitempty"` // skip for the next page; absent on the last
}

// DeadLetter is a ticket that has failed for good.
type DeadLetter struct {
	OrderID    string `json:"order_id"`
	User       string `json:"user,omitempty"`
	Quantity   int    `json:"quantity,omitempty"`
	Reason     string `json:"reason,omitempty"`
	AdmittedAt string `json:"admitted_at,omitempty"`
	FailedAt   string `json:"failed_at,omitempty"`
	Unreadable bool   `json:"unreadable,omitempty"` // it can only be dropped
}

// DeadLetterList is a page of dead letters.
type DeadLetterList struct {
	Dead []DeadLetter `json:"dead"`
	Next int64        `json:"next,omitempty"` // skip for the next page; absent on the last
}

// DeadLetterChange changes many dead letters of a sale: all, or those that fit.
type DeadLetterChange struct {
	All          bool      `json:"all"`
	FailedReason string    `json:"failed_reason"` // why they failed
	User         string    `json:"user"`
	Since        time.Time `json:"since"` // failed at this time or later
	Until        time.Time `json:"until"` // failed before this time
	Limit        *int      `json:"limit"` // 1,000 unless it is said
	Skip         int64     `json:"skip"`  // next of the answer before
	WithReason
}

// Filter returns which letters fit.
func (b DeadLetterChange) Filter() deadletter.Filter {
	return deadletter.Filter{Reason: b.FailedReason, User: b.User, Since: b.Since, Until: b.Until}
}

// DeadLetterResult says what became of them.
type DeadLetterResult struct {
	Done     int                 `json:"done"`
	Refused  int                 `json:"refused"`
	Refusals []DeadLetterRefusal `json:"refusals"` // the first 100
	Left     int                 `json:"left"`     // that fit and were not tried
	Next     int64               `json:"next"`     // skip of the next call
	Stopped  string              `json:"stopped,omitempty"`
}

// DeadLetterRefusal says why one letter was left as it is.
type DeadLetterRefusal struct {
	OrderID string `json:"order_id"`
	Code    Code   `json:"code"`
	Detail  string `json:"detail"`
}

// Instance is a process that has said lately that it runs.
type Instance struct {
	ID            string   `json:"id"`
	Roles         []string `json:"roles"`
	Version       string   `json:"version"`
	ConfigVersion int64    `json:"config_version"`
	ConfigFile    string   `json:"config_file"`
	Payments      bool     `json:"payments"`
	SchemaOldest  int64    `json:"schema_oldest"`
	SchemaNewest  int64    `json:"schema_newest"`
	Sales         []string `json:"sales,omitempty"`  // patterns of the only ones that it drains; none: all
	Topics        []string `json:"topics,omitempty"` // patterns of the only ones that it delivers; none: all
	StartedAt     string   `json:"started_at"`
	LastSeen      string   `json:"last_seen"`
}

// Taken says which processes take a sale or a topic.
type Taken struct {
	Kind      string   `json:"kind"` // sale or topic
	Name      string   `json:"name"`
	Instances []string `json:"instances"` // none: it waits
}

// TakenList is every sale that workers have to drain, and every topic that notifiers have to deliver.
type TakenList struct {
	Taken []Taken `json:"taken"`
}

// InstanceList is all processes.
type InstanceList struct {
	Instances []Instance `json:"instances"`
}

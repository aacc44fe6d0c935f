// Package audit proves that ledger and line agree. It compares both stores, gives a verdict, and shows what it finds
// as metrics.
package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

const (
	mostTries = 40 // looks at a sale that keeps changing under the audit's eyes
	tryPause  = 25 * time.Millisecond
	idsAtOnce = 500
	// looks at a sale before a difference is believed: builds of before requeued letters without a mark
	looksBelieved = 3
)

// Sale compares the two stores for one sale. All counts are units unless they say otherwise.
type Sale struct {
	Sale        string   `json:"sale"`
	Total       int64    `json:"total"`
	Available   int64    `json:"available"`      // ledger
	Live        int64    `json:"live"`           // orders confirmed or paid
	LineStock   int64    `json:"line_stock"`     // can still be reserved in Redis
	InFlight    int64    `json:"in_flight"`      // tickets waiting, leased, isolated or in retry
	Difference  int64    `json:"difference"`     // ledger minus line; 0 or something is wrong
	OverLimit   int64    `json:"over_limit"`     // users holding more than the limit
	Unleased    int64    `json:"unleased"`       // batches without a lease
	NoOutbox    int64    `json:"without_outbox"` // orders without an outbox row
	Epoch       int64    `json:"epoch"`          // of the line's loading
	Admitted    int64    `json:"admitted"`       // orders answered since then
	Found       int64    `json:"found"`          // of those, tickets in the line or rows of the database
	Missing     int64    `json:"missing"`        // of those, in no store: Admitted less Found; 0 or something is wrong
	Lost        int64    `json:"lost"`           // orders that earlier loadings found in no store, recorded as lost
	Restored    int64    `json:"restored"`       // orders that the database had lost and the line put back
	Refused     int64    `json:"refused"`        // orders that the database had lost and that could not be put back
	LinePresent bool     `json:"line_present"`   // false once a finished sale's line has been dropped
	Compared    bool     `json:"compared"`       // false: the line was missing or being rebuilt all the time, ask again
	Problems    []string `json:"problems,omitempty"`
	Clean       bool     `json:"clean"`   // both stores were compared and agree
	Verdict     Verdict  `json:"verdict"` // of Run only
}

// Auditor proves that no unit was lost, doubled or leaked. It may run at any moment. Tickets that move while it reads
// are accounted for by identity. So a busy sale raises no false alarm and hides no leak.
type Auditor struct {
	db    *store.DB
	lines *queue.Lines
	kept  time.Duration
	now   func() time.Time
	looks int // before a difference is believed

	mu       sync.Mutex
	compared map[string]time.Time // when the stores were last compared in the background, by sale
}

// New returns an auditor over both stores. For outboxKept after its confirmation an order must still have its outbox
// rows. The relay deletes delivered ones only later than that.
func New(db *store.DB, lines *queue.Lines, outboxKept time.Duration, now func() time.Time) *Auditor {
	return &Auditor{db: db, lines: lines, kept: outboxKept, now: now, looks: looksBelieved}
}

// Balance audits the units of one sale alone. It leaves out what each user holds and whether each order has its
// outbox rows. The price of those grows several times as fast with the orders there are.
func (a *Auditor) Balance(ctx context.Context, id string) (Sale, error) {
	one, err := a.sale(ctx, id, false, mostTries)
	if err == nil && one.Compared {
		a.noteCompared(id)
	}
	if err != nil {
		return Sale{}, fmt.Errorf("audit %s: %w", id, err)
	}
	return one, nil
}

// errMoved says that the line changed in a way the comparison cannot follow.
var errMoved = errors.New("the line was being rebuilt while it was compared")

func (a *Auditor) sale(ctx context.Context, id string, whole bool, tries int) (Sale, error) {
	differed := 0
	for try := 1; ; try++ {
		result, err := a.compare(ctx, id, whole)
		if err == nil && !result.Clean {
			if differed++; differed == a.looks || try == mostTries {
				return result, nil
			}
		} else if err == nil || !errors.Is(err, errMoved) {
			return result, err
		}
		if err != nil && try >= tries {
			result.Sale = id
			result.Problems = append(result.Problems, fmt.Sprintf("%v, %d times in a row: run the audit again", err,
				try))
			return result, nil
		}
		timer := time.NewTimer(tryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return result, ctx.Err()
		}
	}
}

func (r *Sale) classify(sale inventory.Sale, snap queue.Snapshot) {
	problem := func(bad bool, format string, args ...any) {
		if bad {
			r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
		}
	}
	problem(r.Total != r.Available+r.Live, "ledger: total %d is not available %d + live orders %d", r.Total,
		r.Available, r.Live)
	problem(r.Available < 0, "oversold: the ledger is %d units short", -r.Available)
	problem(r.Difference != 0, "ledger and line differ by %d units", r.Difference)
	problem(r.Missing > 0, "%d accepted orders are in no store", r.Missing)
	problem(r.Missing < 0, "%d orders more than were accepted", -r.Missing)
	problem(r.OverLimit > 0, "%d users hold more than %d units", r.OverLimit, sale.PerUserLimit)
	problem(r.Unleased > 0, "%d batches have no lease", r.Unleased)
	problem(r.NoOutbox > 0, "%d orders have no outbox row", r.NoOutbox)
	problem(snap.EmptyLeases > 0, "%d leases have no batch", snap.EmptyLeases)
	problem(len(snap.Recordless) > 0, "%d listed tickets have no record, %v first", len(snap.Recordless),
		firstOf(snap.Recordless))
	problem(len(snap.ListedTwice) > 0, "%d tickets are listed twice, %v first", len(snap.ListedTwice),
		firstOf(snap.ListedTwice))
	r.Clean = len(r.Problems) == 0
}

func firstOf(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

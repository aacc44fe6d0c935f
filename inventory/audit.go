package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"sluice/queue"
	"sluice/store"
)

const (
	auditTries = 40 // looks at a sale that keeps changing under the audit's eyes
	auditPause = 25 * time.Millisecond
	auditIDs   = 500
	// looks at a sale before a difference is believed: builds of before requeued letters without a mark
	auditLooks = 3
)

// SaleAudit compares the two stores for one sale. All counts are units unless
// they say otherwise.
type SaleAudit struct {
	Sale        string   `json:"sale"`
	Total       int64    `json:"total"`
	Available   int64    `json:"available"`      // ledger
	Live        int64    `json:"live"`           // orders confirmed or paid
	LineStock   int64    `json:"line_stock"`     // can still be reserved in Redis
	InFlight    int64    `json:"in_flight"`      // tickets waiting, leased, suspect or in retry
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

// Auditor proves that no unit was lost, doubled or leaked. It may run at any
// moment: tickets that move while it reads are accounted for by identity, so
// a busy sale raises no false alarm and hides no leak.
type Auditor struct {
	db    *store.DB
	lines *queue.Lines
	kept  time.Duration
	now   func() time.Time
	looks int // before a difference is believed

	mu       sync.Mutex
	compared map[string]time.Time // when the stores were last compared in the background, by sale
}

// NewAuditor returns an auditor over both stores. For outboxKept after its
// confirmation an order must still have its outbox rows: the relay deletes
// delivered ones only later than that.
func NewAuditor(db *store.DB, lines *queue.Lines, outboxKept time.Duration, now func() time.Time) *Auditor {
	return &Auditor{db: db, lines: lines, kept: outboxKept, now: now, looks: auditLooks}
}

// Balance is Run for the units of one sale alone: what each user holds and whether each order was told is not looked
// at. The price of that grows with the orders there are several times as fast.
func (a *Auditor) Balance(ctx context.Context, id string) (SaleAudit, error) {
	one, err := a.sale(ctx, id, false, auditTries)
	if err == nil && one.Compared {
		a.noteCompared(id)
	}
	if err != nil {
		return SaleAudit{}, fmt.Errorf("audit %s: %w", id, err)
	}
	return one, nil
}

// errMoved says that the line changed in a way the comparison cannot follow.
var errMoved = errors.New("the line was being rebuilt while it was compared")

func (a *Auditor) sale(ctx context.Context, id string, whole bool, tries int) (SaleAudit, error) {
	differed := 0
	for try := 1; ; try++ {
		result, err := a.compare(ctx, id, whole)
		if err == nil && !result.Clean {
			if differed++; differed == a.looks || try == auditTries {
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
		timer := time.NewTimer(auditPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return result, ctx.Err()
		}
	}
}

// compare looks at the line, then at the database, then at the line again.
// Between the first two looks orders may have been made; they are recognised
// by their id (they were in flight) or their sequence (they came later) and
// counted as they stood at the first look. So are units of ended orders: those
// still on their way back are recognised by their released mark, those that
// arrived between the looks by the line's own list of them.
func (a *Auditor) compare(ctx context.Context, id string, whole bool) (SaleAudit, error) {
	line := a.lines.Of(id)
	snap, err := line.Snapshot(ctx)
	if err != nil {
		return SaleAudit{}, err
	}
	if snap.Rebuilding {
		return SaleAudit{}, errMoved
	}
	saleCaches, err := a.readLedger(ctx, line, snap, whole)
	if err != nil {
		return SaleAudit{}, err
	}
	r := SaleAudit{Sale: id, Epoch: snap.Epoch, Total: saleCaches.stock.Total, Available: saleCaches.stock.Available,
		Live: saleCaches.live, OverLimit: saleCaches.overLimit,
		NoOutbox: saleCaches.noOutbox, LinePresent: snap.Exists, LineStock: snap.Stock, Unleased: snap.Unleased}
	r.Lost, r.Restored, r.Refused = saleCaches.eras.Lost, saleCaches.eras.Restored, saleCaches.eras.Refused
	for _, units := range snap.InFlight {
		r.InFlight += units
	}
	if snap.Exists {
		r.Admitted = snap.Seq - snap.Base - snap.Marks
		r.Found = saleCaches.found
		r.Missing = r.Admitted - r.Found
		ledger := saleCaches.stock.Available - (saleCaches.stock.Total - snap.Total) + saleCaches.later +
			saleCaches.arrived - saleCaches.pending
		r.Difference = ledger - (snap.Stock + r.InFlight)
	}
	if !snap.Exists && !saleCaches.sale.Finished(a.now()) {
		r.Problems = append(r.Problems, "the line is missing from Redis")
		return r, errMoved
	}
	r.Compared = true
	r.classify(saleCaches.sale, snap)
	return r, nil
}

// pending is how many units have ended in the database but had not returned
// to the line at its snapshot. It asks first of all in tx, and thereby begins
// the snapshot of the database.
func (a *Auditor) pending(ctx context.Context, tx *gorm.DB, line *queue.Line, snap queue.Snapshot) (int64, error) {
	var rows []endedUnits
	// A dead letter that came back and ended since the snapshot held nothing then.
	err := tx.Table("orders").Where("released = 0 AND sale_id = ? AND NOT (epoch = ? AND late_seq > ?)", line.Sale(),
		snap.Epoch, snap.Seq).
		Select("id, quantity, seq, epoch").Scan(&rows).Error
	if err != nil || !snap.Exists {
		return 0, err
	}
	counted := make(map[string]bool)
	var units int64
	count := func(r endedUnits) {
		_, inFlight := snap.InFlight[r.ID]
		later := r.Epoch == snap.Epoch && r.Seq > snap.Seq
		if !inFlight && !later && !counted[r.ID] {
			counted[r.ID] = true
			units += r.Quantity
		}
	}
	for chunk := range slices.Chunk(rows, auditIDs) {
		known, _, err := line.Lookup(ctx, idsOf(chunk))
		if err != nil {
			return 0, err
		}
		for _, r := range chunk {
			if t, ok := known[r.ID]; ok && t.State == queue.Confirmed {
				count(r)
			}
		}
	}
	returned, err := a.returned(ctx, tx, line, snap)
	for _, r := range returned {
		count(r)
	}
	return units, err
}

// returned are the orders that had ended in the database and came back to the
// line after its snapshot; also when a late payment has taken their units
// again since: countLive takes those for units that were in stock. Dead letters
// that came back and ended since then were in stock all the time.
func (a *Auditor) returned(ctx context.Context, tx *gorm.DB, line *queue.Line, snap queue.Snapshot) ([]endedUnits,
	error) {
	epoch, ids, err := line.ReleasedSince(ctx, snap)
	if errors.Is(err, queue.ErrNotReady) || err == nil && epoch != snap.Epoch {
		return nil, errMoved
	}
	if err != nil {
		return nil, err
	}
	var all []endedUnits
	for chunk := range slices.Chunk(ids, auditIDs) {
		var rows []endedUnits
		then := "id IN ? AND (slot IS NULL AND late_seq <= ? OR slot IS NOT NULL AND late_seq > ?)"
		err := tx.Table("orders").Where(then, chunk, snap.Seq, snap.Seq).Select("id, quantity, seq, epoch").
			Scan(&rows).Error
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

func idsOf(rows []endedUnits) []string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids
}

func (r *SaleAudit) classify(sale Sale, snap queue.Snapshot) {
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
		first(snap.Recordless))
	problem(len(snap.ListedTwice) > 0, "%d tickets are listed twice, %v first", len(snap.ListedTwice),
		first(snap.ListedTwice))
	r.Clean = len(r.Problems) == 0
}

func first(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

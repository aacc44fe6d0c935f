package inventory

import (
	"context"
	"slices"
	"time"

	"sluice/queue"
	"sluice/store"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"
)

// AuditAges shows for how long ledger and line of each active sale have not been compared: a difference in between
// would be known to nobody. Lines that are too long for the background are left out.
type AuditAges struct {
	cache   *SaleCache
	auditor *Auditor
	since   time.Time
	desc    *prometheus.Desc
}

// NewAuditAges returns the ages of what this auditor compares in the background, to be registered by the caller.
func NewAuditAges(cache *SaleCache, auditor *Auditor) *AuditAges {
	return &AuditAges{cache: cache, auditor: auditor, since: auditor.now(),
		desc: prometheus.NewDesc("sluice_audit_age_seconds",
			"Seconds since ledger and line were last compared; since the start if they never were.",
			[]string{"sale"}, nil)}
}

// Describe implements prometheus.Collector.
func (a *AuditAges) Describe(ch chan<- *prometheus.Desc) { ch <- a.desc }

// Collect implements prometheus.Collector.
func (a *AuditAges) Collect(ch chan<- prometheus.Metric) {
	now := a.auditor.now()
	for _, id := range a.cache.Active() {
		e, ok := a.cache.Get(id)
		if !ok || e.View().Waiting > auditLine {
			continue
		}
		last := a.auditor.comparedAt(id)
		for _, other := range []time.Time{a.since, time.UnixMilli(e.Sale.CreatedAt)} {
			if other.After(last) {
				last = other
			}
		}
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, max(now.Sub(last).Seconds(), 0), id)
	}
}

// maxCompared bounds the sales that an auditor remembers. Of more, all are forgotten and noted anew.
const maxCompared = 100_000

// noteCompared notes that the stores have just been compared for a sale.
func (a *Auditor) noteCompared(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.compared == nil || len(a.compared) >= maxCompared {
		a.compared = make(map[string]time.Time)
	}
	a.compared[id] = a.now()
}

// comparedAt is when they were last compared; zero if never.
func (a *Auditor) comparedAt(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.compared[id]
}

// books is what one snapshot of the database says of a sale.
type saleCaches struct {
	sale      Sale
	stock     Stock
	live      int64 // units of live orders
	later     int64 // of those, admitted, or taken again by a late payment, after the line's snapshot
	arrived   int64 // of those, in flight at the line's snapshot and not taken again since
	pending   int64 // units of ended orders, not yet back in the line at its snapshot
	overLimit int64
	noOutbox  int64
	found     int64 // orders answered since the line was loaded that are a ticket at its snapshot, or a row
	eras      eraSums
}

// eraSums are over all loadings of a line.
type eraSums struct{ Lost, Restored, Refused int64 }

type endedUnits struct {
	ID                   string
	Quantity, Seq, Epoch int64
}

func (a *Auditor) readLedger(ctx context.Context, line *queue.Line, snap queue.Snapshot,
	whole bool) (saleCaches, error) {
	var b saleCaches
	id := line.Sale()
	err := a.db.Snapshot(ctx, func(tx *gorm.DB) (err error) {
		if b.pending, err = a.pending(ctx, tx, line, snap); err != nil {
			return err
		}
		if err := tx.Take(&b.sale, "id = ?", id).Error; err != nil {
			return err
		}
		if err := tx.Take(&b.stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		if snap.Exists && b.sale.Epoch != snap.Epoch {
			return errMoved
		}
		if err := b.countLive(tx, id, snap); err != nil || !whole {
			return err
		}
		return a.countWrong(tx, id, &b)
	})
	return b, err
}

// countWrong finds users who hold too much and orders that nobody is told of.
func (a *Auditor) countWrong(tx *gorm.DB, id string, b *saleCaches) error {
	overLimit := tx.Table("orders").Where("sale_id = ? AND slot IS NOT NULL", id).Group("user_id").
		Having("SUM(quantity) > ?", b.sale.PerUserLimit).Select("user_id")
	if err := tx.Table("(?) AS over_limit", overLimit).Count(&b.overLimit).Error; err != nil {
		return err
	}
	return tx.Table("orders").Where("sale_id = ? AND slot IS NOT NULL AND confirmed_at > ?", id, a.now().Add(-a.kept).
		UnixMilli()).
		Where(a.untold()).Count(&b.noOutbox).Error
}

// untold is the condition that an order has no outbox row. MariaDB may turn
// NOT EXISTS into one reading of the whole outbox for every sale: with a
// thousand sales an audit then takes minutes. A count it makes order by order.
func (a *Auditor) untold() string {
	if a.db.Driver == store.MySQL {
		return "(SELECT COUNT(*) FROM outbox WHERE outbox.order_id = orders.id) = 0"
	}
	return "NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.order_id = orders.id)"
}

// countTickets adds the tickets of this loading that have no row yet.
func (b *saleCaches) countTickets(tx *gorm.DB, snap queue.Snapshot) error {
	tickets := make(map[string]int64, len(snap.Seqs))
	for id, seq := range snap.Seqs {
		if seq > snap.Base {
			tickets[id] = seq
		}
	}
	both, err := countKnown(tx, tickets)
	b.found += int64(len(tickets)) - both
	return err
}

func (b *saleCaches) countLive(tx *gorm.DB, id string, snap queue.Snapshot) error {
	var sums struct{ Live, Later, Found int64 }
	err := tx.Table("orders").Where("sale_id = ?", id).
		Select("COALESCE(SUM(CASE WHEN slot IS NOT NULL THEN quantity ELSE 0 END), 0) AS live, "+
			"COALESCE(SUM(CASE WHEN slot IS NOT NULL AND epoch = ? AND (seq > ? OR late_seq > ?) THEN quantity "+
			"ELSE 0 END), 0) AS later, "+
			"COALESCE(SUM(CASE WHEN seq > ? AND seq <= ? THEN 1 ELSE 0 END), 0) AS found",
			snap.Epoch, snap.Seq, snap.Seq, snap.Base, snap.Seq).
		Scan(&sums).Error
	if err != nil {
		return err
	}
	b.live, b.later, b.found = sums.Live, sums.Later, sums.Found
	if err := b.countTickets(tx, snap); err != nil {
		return err
	}
	err = tx.Table("eras").Where("sale_id = ?", id).
		Select("COALESCE(SUM(lost), 0) AS lost, COALESCE(SUM(restored), 0) AS restored, COALESCE(SUM(refused), 0) " +
			"AS refused").Scan(&b.eras).Error
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(snap.InFlight))
	for id := range snap.InFlight {
		ids = append(ids, id)
	}
	for chunk := range slices.Chunk(ids, auditIDs) {
		var units int64
		if err := tx.Table("orders").Where("id IN ? AND slot IS NOT NULL AND NOT (epoch = ? AND late_seq > ?)", chunk,
			snap.Epoch, snap.Seq).Select("COALESCE(SUM(quantity), 0)").Scan(&units).Error; err != nil {
			return err
		}
		b.arrived += units
	}
	return nil
}

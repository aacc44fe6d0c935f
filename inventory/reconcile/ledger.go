package reconcile

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
)

// ledgerState is one consistent reading of what the database knows of a sale.
type ledgerState struct {
	sale  inventory.Sale
	stock inventory.Stock
	live  []queue.Ticket
	ended []queue.Ticket // the newest of them
	older bool           // it has more that ended
	seq   int64
}

// reservable returns what can still be reserved: everything unsold, less the tickets in line that are not yet orders.
func (l ledgerState) reservable(survivors []queue.Ticket) int64 {
	ordered := make(map[string]bool, len(l.live))
	for _, t := range l.live {
		ordered[t.ID] = true
	}
	stock := l.stock.Available
	for _, t := range survivors {
		if t.State == queue.Queued && !ordered[t.ID] {
			stock -= int64(t.Units)
		}
	}
	return stock
}

// endedEarly counts the surviving tickets that are orders, or have ended. They are only there until a worker takes
// them off.
func (l ledgerState) endedEarly(survivors []queue.Ticket) (n int64) {
	live := make(map[string]bool, len(l.live))
	for _, t := range l.live {
		live[t.ID] = true
	}
	for _, t := range survivors {
		if t.State != queue.Queued || live[t.ID] {
			n++
		}
	}
	return n
}

type ledgerRow struct {
	ID, UserID, Status, Reason, Fingerprint, Refund             string
	Slot                                                        *int
	Quantity                                                    int
	Seq, Position, ETASeconds, AdmittedAt, ConfirmedAt, EndedAt int64
	PayBy, PaidAt                                               int64
}

// restoreEnded is how many ended orders a rebuild brings back. So a repeated request still finds
// what became of it.
const restoreEnded = 10_000

func (k *Reconciler) readLedger(ctx context.Context, id string) (ledgerState, error) {
	var l ledgerState
	var live, ended []ledgerRow
	err := k.db.Snapshot(ctx, func(tx *gorm.DB) error {
		if err := tx.Take(&l.sale, "id = ?", id).Error; err != nil {
			return err
		}
		if err := tx.Take(&l.stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		if err := tx.Table("orders").Where("sale_id = ?", id).Select("COALESCE(MAX(seq), 0)").Scan(&l.seq).
			Error; err != nil {
			return err
		}
		orders := func() *gorm.DB {
			return tx.Table("orders").Where("sale_id = ?", id).
				Select("id, user_id, status, reason, fingerprint, slot, quantity, seq, position, eta_seconds, " +
					"admitted_at, confirmed_at, ended_at, pay_by, paid_at, refund")
		}
		if err := orders().Where("slot IS NOT NULL").Scan(&live).Error; err != nil {
			return err
		}
		return orders().Where("slot IS NULL").Order("ended_at DESC").Limit(restoreEnded + 1).Scan(&ended).Error
	})
	if err != nil {
		return l, fmt.Errorf("read the ledger of %s: %w", id, err)
	}
	if l.older = len(ended) > restoreEnded; l.older {
		ended = ended[:restoreEnded]
	}
	for _, r := range live {
		l.live = append(l.live, r.ticket())
	}
	for _, r := range ended {
		l.ended = append(l.ended, r.ticket())
	}
	return l, nil
}

// ticket returns the order as the line remembers it.
func (r ledgerRow) ticket() queue.Ticket {
	t := queue.Ticket{ID: r.ID, User: r.UserID, Seq: r.Seq, Units: r.Quantity, Slot: 1,
		AdmittedAt:  time.UnixMilli(r.AdmittedAt),
		Fingerprint: r.Fingerprint, Position: r.Position, ETASeconds: r.ETASeconds, At: time.UnixMilli(r.EndedAt),
		Reason: r.Reason, Refund: r.Refund != ""}
	if r.Slot != nil {
		t.Slot, t.At = *r.Slot, time.UnixMilli(r.ConfirmedAt)
	}
	switch r.Status {
	case "paid":
		t.State, t.PaidAt = queue.Paid, time.UnixMilli(r.PaidAt)
	case "failed":
		t.State = queue.Failed
	case "cancelled":
		t.State = queue.Cancelled
	case "expired":
		t.State = queue.Expired
	default:
		t.State = queue.Confirmed
		if r.PayBy > 0 {
			t.PayBy = time.UnixMilli(r.PayBy)
		}
	}
	return t
}

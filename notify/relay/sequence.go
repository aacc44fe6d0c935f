package relay

import (
	"math"
	"time"

	"gorm.io/gorm"

	"sluice/notify"
	"sluice/store"
)

// sequence splits due rows by whether an earlier event of their order is still pending. A channel gets the events of an
// order one at a time, in the order in which they happened. An event waits while an earlier one is pending.
type sequence struct {
	ready []notify.Row
	again []notify.Row // the next scan finds them again
}

// blockedAgain is how long a row waits at most for an earlier one that another relay is delivering.
const blockedAgain = time.Second

// sequenceRows separates the locked rows that must wait for an earlier event of their order. It postpones those that
// need not be scanned again at once.
func sequenceRows(tx *gorm.DB, l *channelLoop, rows []notify.Row, now int64) (sequence, error) {
	first, err := earliestPending(tx, l, rows)
	if err != nil || len(first) == 0 {
		return sequence{ready: rows}, err
	}
	taken := make(map[int64]bool, len(rows))
	for _, row := range rows {
		taken[row.ID] = true
	}
	var order sequence
	later := map[int64][]int64{} // ids of postponed rows by their new due time
	for _, row := range rows {
		before, ok := first[row.OrderID]
		switch {
		case !ok || before.ID == row.ID:
			order.ready = append(order.ready, row)
		case taken[before.ID], l.underWay[before.ID]:
			order.again = append(order.again, row)
		case before.LeasedUntil > now:
			until := min(before.LeasedUntil, now+blockedAgain.Milliseconds())
			later[until] = append(later[until], row.ID)
		case before.NextAt <= now:
			order.again = append(order.again, row, before)
		case l.latest && overtakes(row, before):
			// The earlier one waits for a retry and is no longer true. It is made due now, so that it ends as overtaken
			// at once.
			later[now] = append(later[now], before.ID)
			order.again = append(order.again, row)
		default:
			later[before.NextAt] = append(later[before.NextAt], row.ID)
		}
	}
	return order, postpone(tx, later, now)
}

// overtakes reports whether a row makes an earlier one untrue, because both report the order's state.
func overtakes(row, before notify.Row) bool {
	return row.Event != notify.EventRefundRequired && before.Event != notify.EventRefundRequired
}

// postpone makes pending rows due at the times that are the keys of later.
func postpone(tx *gorm.DB, later map[int64][]int64, now int64) error {
	for at, ids := range later {
		err := notify.WhereIDs(tx, ids).Where("state = ? AND leased_until <= ?", notify.StatePending, now).
			Updates(map[string]any{"next_at": at}).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// earliestPending returns the earliest pending row in the channel of each order that rows are about. While nothing is
// postponed it leaves out confirmations. They are first events, and a flood of them then costs no query.
func earliestPending(tx *gorm.DB, l *channelLoop, rows []notify.Row) (map[string]notify.Row, error) {
	waits, err := anyPostponed(tx, l, rows)
	if err != nil {
		return nil, err
	}
	var orders []string
	for _, row := range rows {
		if waits || row.Event != notify.EventConfirmed {
			orders = append(orders, row.OrderID)
		}
	}
	if len(orders) == 0 {
		return nil, nil
	}
	query := tx.Model(&notify.Row{})
	if tx.Name() == store.MySQL {
		query = query.Table("outbox FORCE INDEX (outbox_news)")
	}
	// No condition on the state: a database may then use the index of pending rows and walk over all.
	var all []notify.Row
	err = query.Where("order_id IN ? AND channel = ?", orders, l.channel.Name()).
		Select("id", "order_id", "event", "state", "next_at", "leased_until").Order("id").Find(&all).Error
	first := make(map[string]notify.Row, len(orders))
	for _, row := range all {
		if _, found := first[row.OrderID]; !found && row.State == notify.StatePending {
			first[row.OrderID] = row
		}
	}
	return first, err
}

// anyPostponed reports whether some row of the channel waits for a retry. In rows, postponed ones come first.
func anyPostponed(tx *gorm.DB, l *channelLoop, rows []notify.Row) (bool, error) {
	if len(rows) == 0 || rows[0].NextAt > 0 {
		return len(rows) > 0, nil
	}
	var ids []int64
	err := unleased(tx, l.channel.Name(), math.MaxInt64).Where("next_at > 0").Limit(1).Pluck("id", &ids).Error
	return len(ids) > 0, err
}

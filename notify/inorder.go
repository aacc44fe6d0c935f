package notify

import (
	"math"
	"time"

	"gorm.io/gorm"

	"sluice/store"
)

// inOrder are rows that were due, sorted by whether their time has come. The news of one order goes out in the order in which it
// happened: of an order a channel is told one thing at a time, and nothing while something earlier is neither told nor given up on.
type inOrder struct {
	free  []Row
	again []Row // to be looked for again at the next look
}

// blockedAgain is when a row is looked at again that waits for one another relay is telling.
const blockedAgain = time.Second

// putInOrder keeps back those of the locked rows that have an earlier one of the same order before them.
func putInOrder(tx *gorm.DB, l *lane, rows []Row, now int64) (inOrder, error) {
	first, err := firstOf(tx, l, rows)
	if err != nil || len(first) == 0 {
		return inOrder{free: rows}, err
	}
	taken := make(map[int64]bool, len(rows))
	for _, row := range rows {
		taken[row.ID] = true
	}
	var order inOrder
	later := map[int64][]int64{} // rows by when they are due
	for _, row := range rows {
		before, ok := first[row.OrderID]
		switch {
		case !ok || before.ID == row.ID:
			order.free = append(order.free, row)
		case taken[before.ID]:
			order.again = append(order.again, row)
		case before.LeasedUntil > now:
			until := min(before.LeasedUntil, now+blockedAgain.Milliseconds())
			later[until] = append(later[until], row.ID)
		case before.NextAt <= now:
			order.again = append(order.again, row, before)
		case l.latest && overtakes(row, before):
			// It waits for another try and is no longer true: that shows at once, and holds up nothing.
			later[now] = append(later[now], before.ID)
			order.again = append(order.again, row)
		default:
			later[before.NextAt] = append(later[before.NextAt], row.ID)
		}
	}
	return order, putLater(tx, later, now)
}

// overtakes reports whether one row makes another untrue that came before: both tell how the order stands.
func overtakes(row, before Row) bool {
	return row.Event != EventRefundRequired && before.Event != EventRefundRequired
}

// putLater makes pending rows due at other times.
func putLater(tx *gorm.DB, later map[int64][]int64, now int64) error {
	for at, ids := range later {
		err := among(tx, ids).Where("state = ? AND leased_until <= ?", StatePending, now).Updates(map[string]any{"next_at": at}).Error
		if err != nil {
			return err
		}
	}
	return nil
}

// firstOf returns the earliest pending row of the orders of some rows in the lane's channel. Confirmations are left out while nothing
// is put off: they come first, and a flood of them costs nothing more.
func firstOf(tx *gorm.DB, l *lane, rows []Row) (map[string]Row, error) {
	waits, err := anyPutOff(tx, l, rows)
	if err != nil {
		return nil, err
	}
	var orders []string
	for _, row := range rows {
		if waits || row.Event != EventConfirmed {
			orders = append(orders, row.OrderID)
		}
	}
	if len(orders) == 0 {
		return nil, nil
	}
	query := tx.Model(&Row{})
	if tx.Name() == store.MySQL {
		query = query.Table("outbox FORCE INDEX (outbox_news)")
	}
	// To ask for their state as well would lead a database that expects few pending rows to walk over all of them.
	var all []Row
	err = query.Where("order_id IN ? AND channel = ?", orders, l.channel.Name()).Select("id", "order_id", "event", "state", "next_at", "leased_until").
		Order("id").Find(&all).Error
	first := make(map[string]Row, len(orders))
	for _, row := range all {
		if _, known := first[row.OrderID]; !known && row.State == StatePending {
			first[row.OrderID] = row
		}
	}
	return first, err
}

// anyPutOff reports whether something of the lane's channel waits for another try. Rows that were put off come first.
func anyPutOff(tx *gorm.DB, l *lane, rows []Row) (bool, error) {
	if len(rows) == 0 || rows[0].NextAt > 0 {
		return len(rows) > 0, nil
	}
	var ids []int64
	err := pending(tx, l.channel.Name(), math.MaxInt64).Where("next_at > 0").Limit(1).Pluck("id", &ids).Error
	return len(ids) > 0, err
}

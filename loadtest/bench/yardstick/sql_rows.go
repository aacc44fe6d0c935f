package yardstick

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
)

// batch is one transaction: the arguments of each of its statements.
type batch struct {
	orders, outbox [][]any
	size           int
}

// batches makes all rows before the clock runs; a part of a batch at the end is left out.
func (j Job) batches() []batch {
	list := make([]batch, j.Orders/j.Batch)
	began := time.Now().UnixMilli()
	for i := range list {
		b, tag, now := batch{size: j.Batch}, randomID(), time.Now().UnixMilli()
		rows := j.arrivals(i)
		for some := range slices.Chunk(rows, j.rows()) {
			var orders, outbox []any
			for _, a := range some {
				user := fmt.Sprintf("shopper-%08d", a.seq)
				orders = append(orders, a.id, sale, user, 0, 1, 9900, "CNY", "confirmed", "", "", "", a.seq, 1, tag,
					"a1b2c3d4e5f60718", a.seq, a.seq, 1, began+a.seq/arrivalsPerMS, now, 0, 0, 0, 0, "zh-CN")
				outbox = append(outbox, a.id, "order.confirmed", "stream", sale, user, 0, 0, 0, 0, 0, "", now, 0)
			}
			b.orders, b.outbox = append(b.orders, orders), append(b.outbox, outbox)
		}
		list[i] = b
	}
	return list
}

// arrivalsPerMS is about how fast the line was filled that Sluice drains.
const arrivalsPerMS = 50

// arrival is one order. Its id tells nothing of when it came, nor of whose it is.
type arrival struct {
	id  string
	seq int64
}

// arrivals returns the orders of a batch, sorted by the table's primary index, as Sluice inserts them. So the other
// indexes are entered in random places, as by Sluice.
func (j Job) arrivals(batch int) []arrival {
	rows := make([]arrival, j.Batch)
	for n := range rows {
		rows[n] = arrival{id: randomID(), seq: int64(batch*j.Batch + n)}
	}
	slices.SortFunc(rows, func(a, b arrival) int { return strings.Compare(a.id, b.id) })
	return rows
}

// randomID returns a random text with the form of an order's id.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

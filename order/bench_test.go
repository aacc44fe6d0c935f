package order_test

import (
	"testing"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

// BenchmarkHandle is the transaction that makes a thousand tickets of one sale orders.
func BenchmarkHandle(b *testing.B) {
	const orders = 1000
	for _, d := range tables.Databases(b) {
		b.Run(d.Driver, func(b *testing.B) {
			w := newWorldWith(b, tables.New(b, d.Driver), testkit.Redis(b).Addr(), 100_000_000, 1, 0)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				w.admitMany(orders)
				batch := w.claim(orders)
				b.StartTimer()
				outcomes := w.handle(batch)
				b.StopTimer()
				w.settle(batch, outcomes)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*orders)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

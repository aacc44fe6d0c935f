package order_test

import (
	"testing"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
)

// BenchmarkHandle is the transaction that makes a thousand tickets of one sale orders.
func BenchmarkHandle(b *testing.B) {
	const many = 1000
	for _, d := range tables.Databases(b) {
		b.Run(d.Driver, func(b *testing.B) {
			w := orders.NewUnpaid(b, tables.New(b, d.Driver), testkit.Redis(b).Addr(),
				orders.Terms{Stock: 100_000_000, Limit: 1})
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				w.AdmitMany(many)
				batch := w.Claim(many)
				b.StartTimer()
				outcomes := w.Handle(batch)
				b.StopTimer()
				w.Settle(batch, outcomes)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*many)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

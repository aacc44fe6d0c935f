// Package figures measures: one file for each group of rows, and for what it is compared with.
package figures

import (
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// Figures returns the rows of the table, in its order. A new row is a Figure here and a file that opens its Trial.
func Figures() []Figure {
	return []Figure{
		{Name: "admission-256", Title: "admitted orders/s, 256 connections",
			Against: "bare Gin handler, JSON of the same sizes",
			Unit:    "1/s", Target: report.Target{AtLeast: 0.75}, Effort: Effort{Round: 10 * time.Second},
			Open: admission(256)},
		{Name: "admission-64", Title: "admitted orders/s, 64 connections",
			Against: "bare Gin handler, JSON of the same sizes",
			Unit:    "1/s", Target: report.Target{AtLeast: 0.65}, Effort: Effort{Round: 10 * time.Second},
			Open: admission(64)},
		{Name: "lone", Title: "median latency of a lone order", Against: "Gin handler with one Lua call",
			Unit: "µs", Target: report.Target{AtMost: 1.2}, Effort: Effort{Round: 10 * time.Second}, Open: loneLatency},
		{Name: "refused", Title: "refused orders/s, lower of sold out and full",
			Against: "Gin handler with a static refusal",
			Unit:    "1/s", Target: report.Target{AtLeast: 0.90},
			Effort: Effort{Round: 13 * time.Second}, Open: refused},
		{Name: "polls", Title: "status polls/s of waiting orders", Against: "bare Gin handler, JSON of the same sizes",
			Unit: "1/s", Target: report.Target{AtLeast: 0.70}, Effort: Effort{Round: 11 * time.Second}, Open: polls},
		{Name: "drain-mariadb", Title: "durable orders/s drained to MariaDB", Against: "hand-written multi-row SQL",
			Unit: "1/s", Target: report.Target{AtLeast: 0.80}, Effort: Effort{Once: 45 * time.Second,
				Round: 17 * time.Second}, Open: drain("mysql")},
		{Name: "drain-postgres", Title: "durable orders/s drained to PostgreSQL", Against: "hand-written multi-row SQL",
			Unit: "1/s", Target: report.Target{AtLeast: 0.80}, Effort: Effort{Once: 45 * time.Second,
				Round: 17 * time.Second}, Open: drain("postgres")},
		{Name: "drain-sqlite", Title: "durable orders/s drained to SQLite", Against: "hand-written multi-row SQL",
			Unit: "1/s", Target: report.Target{AtLeast: 0.80}, Effort: Effort{Once: 30 * time.Second,
				Round: 17 * time.Second}, Open: drain("sqlite")},
		{Name: "asynq", Title: "durable orders/s against one transaction each", Against: "asynq and GORM on MariaDB",
			Unit: "1/s", Target: report.Target{AtLeast: 10}, Effort: Effort{Once: 25 * time.Second,
				Round: 24 * time.Second}, Open: asynqPeer},
		{Name: "sustained", Title: "orders/s taken and confirmed at once, all roles, MariaDB", Unit: "1/s",
			Effort: Effort{Round: 11 * time.Second}, Open: sustained},
		{Name: "confirmed", Title: "p99 from request to confirmed at half of that rate",
			Unit: "ms", Target: report.Target{AtMost: 100},
			Effort: Effort{Round: 23 * time.Second}, Open: confirmation},
		{Name: "goodput",
			Title: "confirmed orders/s at ten times what a slowed database takes (one order a transaction, one at a " +
				"time)", Against: "its own peak, at one and a half times",
			Unit: "1/s", Target: report.Target{AtLeast: 0.90}, Effort: Effort{Round: 30 * time.Second}, Open: goodput},
		{Name: "overload-p99", Title: "p99 of accepted answers at ten times that load (the same slowed database)",
			Against: "the same at half of it",
			Unit:    "ms", Target: report.Target{AtMost: 2},
			Effort: Effort{Round: 30 * time.Second}, Open: overloadLatency},
		{Name: "redis-memory", Title: "Redis memory for each waiting order",
			Unit: "B", Target: report.Target{AtMost: 400}, Effort: Effort{Round: 12 * time.Second}, Open: redisMemory},
		{Name: "connections", Title: "gateway memory at 10,000 open connections",
			Unit: "MB", Target: report.Target{AtMost: 150},
			Effort: Effort{Round: 10 * time.Second}, Open: connectionMemory},
		{Name: "cost-orders", Title: "CPU time of an order among a million", Against: "among ten thousand",
			Unit: "µs", Target: report.Target{AtMost: 1.15}, Effort: Effort{Once: 10 * time.Second,
				Round: 100 * time.Second}, Open: costOfOrders},
		{Name: "cost-sales", Title: "CPU time of an order in one of 1,000 sales", Against: "in the only sale",
			Unit: "µs", Target: report.Target{AtMost: 1.15}, Effort: Effort{Once: 3 * time.Second,
				Round: 32 * time.Second}, Open: costOfSales},
		{Name: "delayed-added", Title: "delayed messages/s added, a thousand in a call",
			Unit: "1/s", Target: report.Target{AtLeast: 20_000}, Open: delayedAdds},
		{Name: "delayed-fired", Title: "delayed messages/s delivered while a million wait",
			Unit: "1/s", Target: report.Target{AtLeast: 10_000}, Effort: Effort{Round: 30 * time.Second},
			Open: firing(firePer, func(rate float64, _ []time.Duration) float64 { return rate })},
		{Name: "delayed-late", Title: "p99 lateness of 10,000 delayed messages/s while a million wait",
			Unit: "ms", Target: report.Target{AtMost: 250}, Effort: Effort{Round: 30 * time.Second},
			Open: firing(latePer,
				func(_ float64, late []time.Duration) float64 { return millis(lab.Percentile(late, 99)) })},
		{Name: "expiry", Title: "time to end 10,000 unpaid orders that are due at once",
			Unit: "s", Target: report.Target{AtMost: 5}, Open: expiry},
	}
}

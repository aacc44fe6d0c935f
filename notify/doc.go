// Package notify tells the outside world what happened to an order: rows written in the order's own transaction (the outbox),
// and a relay that hands them to channels at least once, on a schedule, until each is delivered or given up for good.
package notify

// Package notify tells the outside world what happened to an order.
//
// Rows of the outbox are written in the order's own transaction. notify/relay hands them to channels, at least once
// each, until they are delivered or given up for good. The channels themselves live in notify/channel.
package notify

// Package queue owns everything Sluice keeps in Redis: the bounded line of a
// sale (its keys, its Lua scripts and the Go calls around them) and the consumer
// that drains lines through an ants pool.
//
// The package knows tickets, not orders: what a ticket becomes is decided by
// the Handler the consumer is given. docs/protocol.md argues why no ticket
// and no unit can be lost or doubled on the way.
package queue

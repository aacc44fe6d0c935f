// Package order owns the order: its states, the one transaction that turns
// tickets into orders, cancelling, and looking orders up wherever they are.
package order

// Package redisnodes starts several Redis servers that belong together: a cluster, or a master with sentinels. It
// says what one of them must do: fail over, move a slot, lose its master, take another's data.
package redisnodes

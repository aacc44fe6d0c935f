// Package schema carries the migrations and says which builds may use a database: whose it is, which versions it has,
// and which processes run beside.
package schema

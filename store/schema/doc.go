// Package schema has the migrations and decides which builds may use a database. It checks whose the database is, which
// versions it has, and which processes run.
package schema

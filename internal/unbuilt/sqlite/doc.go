// Package sqlite3 stands in for the SQLite in C that GORM's driver names in an
// import and that nothing here opens: store gives that driver connections of
// modernc.org/sqlite. Empty, it saves each build 40 seconds of compiling C, and
// the need for a C compiler.
package sqlite3

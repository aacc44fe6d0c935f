// Package sqlite3 replaces the SQLite in C that GORM's driver imports. Nothing here opens it: store gives that driver
// connections of modernc.org/sqlite. Being empty, it saves each build 40 seconds of compiling C and the need for a C
// compiler.
package sqlite3

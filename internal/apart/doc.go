// Package apart keeps what is broken from what is well: of many lines, sales, topics or servers each gets a turn of its
// own, and one that fails, panics or hangs costs nobody else anything.
package apart

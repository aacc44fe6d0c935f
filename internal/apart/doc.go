// Package apart isolates faults. Each of many lines, sales, topics or servers gets a turn of its own. One that fails,
// panics or hangs delays no other.
package apart

//go:build !killpoints

// Package killpoint names the steps between which a process may die. Built
// with the tag killpoints, a process kills itself at the step it was told to;
// built without, as every release is, a step costs nothing.
package killpoint

// Pass marks a step. In this build it does nothing.
func Pass(string) {}

//go:build !linux

package redis

import "syscall"

// childAttr puts the server in a group of its own, so that Ctrl-C reaches only
// us and the line can be drained. Without a way to have the system end it when
// we are killed, the next start ends it (see lockDir).
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

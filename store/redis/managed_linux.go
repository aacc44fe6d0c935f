package redis

import "syscall"

// childAttr puts the server in a group of its own, so that Ctrl-C reaches only
// us and the line can be drained, and has the kernel end it when the thread
// that started it ends.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

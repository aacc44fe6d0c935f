package redis

import "syscall"

// childAttr gives the server its own process group, so that Ctrl-C reaches only this process. The kernel ends the
// server with the thread that started it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

//go:build !linux

package redis

import "syscall"

// childAttr gives the server its own process group, so that Ctrl-C reaches only this process. If this process is
// killed, the next start ends the server (see lockDir).
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

package yardstick

import (
	"syscall"
	"time"
)

// Spent is the time of a job after its preparation.
type Spent struct {
	Took time.Duration
	CPU  time.Duration // of this process
}

// clock measures a job from when it is ready.
type clock struct {
	at  time.Time
	cpu time.Duration
}

func (j Job) start() clock {
	if j.Ready != nil {
		j.Ready()
	}
	return clock{at: time.Now(), cpu: ownCPU()}
}

func (c clock) stop() Spent { return Spent{Took: time.Since(c.at), CPU: ownCPU() - c.cpu} }

// ownCPU returns the user and system time of this process.
func ownCPU() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

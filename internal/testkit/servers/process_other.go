//go:build unix && !linux

package servers

import (
	"syscall"
	"time"
)

// DieWithParent does nothing: this system has no such signal. A test process
// that is killed leaves its servers behind; one that ends in any other way stops them.
func DieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// childrenOf finds none: they notice by themselves that their parent is gone.
func childrenOf(int) []int { return nil }

func awaitGone([]int, time.Duration) {}

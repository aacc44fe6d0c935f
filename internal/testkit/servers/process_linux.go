package servers

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DieWithParent makes the child receive sig when the thread that forked it ends.
func DieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) {
	attr.Pdeathsig = sig
}

// childrenOf returns the direct children of pid.
func childrenOf(pid int) []int {
	var children []int
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// awaitGone returns once no pid runs any more. Nobody but init reaps them, so
// a zombie counts as gone: what it held is free.
func awaitGone(pids []int, patience time.Duration) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for running(pid) && time.Now().Before(deadline) {
			<-tick.C
		}
	}
}

// running reads the state letter that follows the name in parentheses.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text[max(0, strings.LastIndex(string(text), ")")):]), " ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

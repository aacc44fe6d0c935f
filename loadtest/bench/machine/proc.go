package machine

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc's CPU times: Linux fixes USER_HZ at 100 for every architecture Go runs on.
const clockTick = 10 * time.Millisecond

// CPUClock measures the CPU time of named processes with all their children.
type CPUClock struct {
	pids  map[string][]int
	start map[string]time.Duration
}

// StartCPU returns a CPUClock that counts from now.
func StartCPU(pids map[string][]int) *CPUClock {
	c := &CPUClock{pids: maps.Clone(pids)}
	c.start = c.read()
	return c
}

// Used returns the CPU time since the start, by process.
func (c *CPUClock) Used() map[string]time.Duration {
	used := c.read()
	for name := range used {
		used[name] -= c.start[name]
	}
	return used
}

// Sum returns the total of all processes.
func Sum(used map[string]time.Duration) time.Duration {
	var all time.Duration
	for _, one := range used {
		all += one
	}
	return all
}

func (c *CPUClock) read() map[string]time.Duration {
	all := processes()
	sums := map[string]time.Duration{}
	for name, pids := range c.pids {
		for _, pid := range pids {
			sums[name] += treeCPU(all, pid)
		}
	}
	return sums
}

// procStat is the needed part of /proc/PID/stat.
type procStat struct {
	parent int
	cpu    time.Duration // its own, with children that it has waited for
}

func processes() map[int]procStat {
	all := map[int]procStat{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		if s, ok := parseStat(string(text)); ok {
			all[pid] = s
		}
	}
	return all
}

// parseStat parses the fields after the name, which is in parentheses and may contain anything.
func parseStat(text string) (procStat, bool) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const parent, utime, cstime = 1, 11, 14
	if len(fields) <= cstime {
		return procStat{}, false
	}
	var s procStat
	s.parent, _ = strconv.Atoi(fields[parent])
	for _, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return procStat{}, false
		}
		s.cpu += time.Duration(ticks) * clockTick
	}
	return s, true
}

func treeCPU(all map[int]procStat, root int) time.Duration {
	sum := all[root].cpu
	for pid, s := range all {
		if s.parent == root {
			sum += treeCPU(all, pid)
		}
	}
	return sum
}

// ResidentBytes returns the memory of a process in RAM.
func ResidentBytes(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status names no VmRSS", pid)
}

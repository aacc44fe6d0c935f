package machine

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// MostForeign is the share of the machine above which other programs cause a warning in the table.
const MostForeign = 0.05

// Neighbours measures how much of the machine other programs have used since its creation.
type Neighbours struct {
	began      time.Time
	busy, ours time.Duration
}

// WatchNeighbours starts to measure the use by other programs.
func WatchNeighbours() Neighbours {
	return Neighbours{began: time.Now(), busy: machineCPU(), ours: treeCPU(processes(), os.Getpid())}
}

// Share returns the others' share of the machine, 0 to 1.
func (n Neighbours) Share() float64 {
	others := machineCPU() - n.busy - (treeCPU(processes(), os.Getpid()) - n.ours)
	return max(0, others.Seconds()/(time.Since(n.began).Seconds()*float64(runtime.NumCPU())))
}

// machineCPU returns how long all processors have worked, or 0 if unknown.
func machineCPU() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return parseMachineCPU(line)
}

// parseMachineCPU returns the sum of user, nice, system, irq and softirq of the line "cpu".
func parseMachineCPU(line string) time.Duration {
	fields := strings.Fields(line)
	var sum time.Duration
	for _, at := range []int{1, 2, 3, 6, 7} {
		if at < len(fields) {
			ticks, err := strconv.ParseInt(fields[at], 10, 64)
			if err == nil {
				sum += time.Duration(ticks) * clockTick
			}
		}
	}
	return sum
}

package machine

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// MostForeign is the share of the machine that other programs may use before the table warns.
const MostForeign = 0.05

// Neighbours tells how much of the machine others have used since it was made.
type Neighbours struct {
	began      time.Time
	busy, ours time.Duration
}

// WatchNeighbours begins to watch what others take of the machine.
func WatchNeighbours() Neighbours {
	return Neighbours{began: time.Now(), busy: machineCPU(), ours: treeCPU(processes(), os.Getpid())}
}

// Share is 0 on a machine of our own and 1 on one that others have for themselves.
func (n Neighbours) Share() float64 {
	others := machineCPU() - n.busy - (treeCPU(processes(), os.Getpid()) - n.ours)
	return max(0, others.Seconds()/(time.Since(n.began).Seconds()*float64(runtime.NumCPU())))
}

// machineCPU is the time all processors have worked, 0 where nobody tells.
func machineCPU() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return parseMachineCPU(line)
}

// parseMachineCPU adds up user, nice, system, irq and softirq of the line "cpu"; idle and waiting are no work.
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

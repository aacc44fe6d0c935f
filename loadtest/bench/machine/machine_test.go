package machine

import (
	"os"
	"testing"
	"time"
)

func TestCPUTimeOfATreeCountsChildrenThatLiveAndThatHaveEnded(t *testing.T) {
	t.Parallel()
	s, ok := parseStat("42 (a (strange) name) S 7 1 1 0 -1 4194560 100 0 0 0 10 20 30 40 20 0 1 0 5")
	if !ok || s.parent != 7 || s.cpu != time.Second {
		t.Fatalf("%+v", s)
	}
	all := map[int]procStat{1: {0, time.Second}, 2: {1, time.Second}, 3: {2, time.Second}, 4: {9, time.Second}}
	if got := treeCPU(all, 1); got != 3*time.Second {
		t.Fatal(got)
	}
	if _, ok := parseStat("42 (short) S 7"); ok {
		t.Fatal("half a line was taken")
	}
}

func TestUsedCPUIsOursAlone(t *testing.T) {
	t.Parallel()
	clock := StartCPU(map[string][]int{"self": {os.Getpid()}})
	for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
	}
	if used := clock.Used()["self"]; used < clockTick || used > time.Minute {
		t.Fatal(used)
	}
}

func TestNeighboursAreCountedWithoutIdleTime(t *testing.T) {
	t.Parallel()
	if got := parseMachineCPU("cpu  100 20 30 5000 700 4 6 9 0 0"); got != 160*clockTick {
		t.Fatal(got)
	}
}

// Package machine describes the machine of the benchmark and measures its use by processes.
package machine

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// Machine describes the machine of a measurement.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Disk  string `json:"disk"` // file system of the stores, on which the cost of a flush depends
}

// ThisMachine returns this machine, with the file system of a folder.
func ThisMachine(dir string) Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Disk: fileSystem(dir)}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// fileSystem returns the name of a folder's file system.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	names := map[int64]string{0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs (in memory)",
		0x794C7630: "overlay"}
	if name, ok := names[int64(s.Type)]; ok {
		return name
	}
	return "other"
}

// Commit returns the commit of the source, marked if the source has changes.
func Commit(source string) string {
	cmd := exec.Command("git", "describe", "--tags", "--always", "--dirty")
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Tools returns the versions of the other programs.
func Tools() map[string]string {
	found := map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")}
	if out, err := exec.Command("redis-server", "--version").Output(); err == nil {
		if _, rest, ok := strings.Cut(string(out), "v="); ok {
			found["Redis"], _, _ = strings.Cut(rest, " ")
		}
	}
	out, _ := exec.Command("wrk", "-v").Output() // it prints its version and exits with 1
	if fields := strings.Fields(string(out)); len(fields) > 1 {
		found["wrk"] = fields[1]
	}
	return found
}

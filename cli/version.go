package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says from what this binary was built.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// build returns the version given at link time. Values that were not given come from the toolchain's record.
func (c *cli) build() build {
	b := build{Version: c.version, Commit: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if recorded := info.Main.Version; c.version == "dev" && recorded != "" && recorded != "(devel)" {
		b.Version = recorded
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	b.Commit += changed
	return b
}

func newVersionCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  sluice version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := c.build()
			if !c.asJSON {
				return c.print(fmt.Sprintf("sluice %s, commit %s, %s\n", b.Version, b.Commit, b.Go))
			}
			return c.printJSON(b)
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

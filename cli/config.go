package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/configs"
)

func newConfigCommand(c *cli) *cobra.Command {
	check := &cobra.Command{
		Use:     "check",
		Short:   "Check the configuration and list everything that is wrong with it",
		Example: "  sluice config check --config configs/production.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return c.checkConfig() },
	}
	show := &cobra.Command{
		Use:     "print",
		Short:   "Print every key with its value and source, secrets masked",
		Long:    "print shows what is configured, even where check would still miss something.",
		Example: "  sluice config print --config configs/production.yaml --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// The section log always has a valid default, so a missing secret elsewhere does not fail this command.
			loaded, err := c.loadOptions(configs.Options{Sections: []string{"log"}})
			if err != nil {
				return err
			}
			return loaded.Print(c.out, c.asJSON)
		},
	}
	c.jsonFlag(check)
	c.jsonFlag(show)
	return newGroup("config", "Check or print the configuration",
		"  sluice config check --config configs/production.yaml\n  sluice config print", check, show,
		newConfigShowCommand(c), newConfigSetCommand(c), newConfigRevertCommand(c), newConfigVersionsCommand(c),
		newConfigReloadCommand(c))
}

func (c *cli) checkConfig() error {
	_, err := c.load(nil)
	if !c.asJSON {
		if err != nil {
			return err
		}
		return c.print("the configuration is valid\n")
	}
	bad := []string{}
	if err != nil {
		bad = strings.Split(err.Error(), "\n")
		if len(bad) > 1 {
			bad = bad[1:] // the first line is the heading
		}
	}
	return errors.Join(err, c.printJSON(map[string]any{"valid": err == nil, "errors": bad}))
}

func newConfigShowCommand(c *cli) *cobra.Command {
	return c.opsCommand(&cobra.Command{
		Use:     "show",
		Short:   "Show the configuration of a running instance, with its version",
		Example: "  sluice config show --ops http://10.0.0.7:8081",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.fetch(cmd.Context(), "/config", configTable()) },
	})
}

func configTable() layout { return newLayout(showConfig) }

func showConfig(view api.Config) string {
	rows := [][]string{{"KEY", "VALUE", "SOURCE", "UNTIL"}}
	for _, k := range view.Keys {
		until := k.Until
		for _, sale := range slices.Sorted(maps.Keys(k.UntilOf)) {
			until = strings.TrimSpace(until + " " + sale + " " + k.UntilOf[sale])
		}
		rows = append(rows, []string{k.Key, printable(compactJSON(k.Value)), printable(k.Source), printable(until)})
	}
	return versionLine(view.ConfigVersion) + leftOutLine(view.Left) + table(rows...)
}

// compactJSON returns a value of an answer as JSON on one line.
func compactJSON(value any) string {
	text, _ := json.Marshal(value) // it came from JSON
	return string(text)
}

// versionLine says which version is in force and who made it.
func versionLine(v api.ConfigVersion) string {
	if v.Version == 0 {
		return "version 0, as started\n"
	}
	return fmt.Sprintf("version %d, %s by %s at %s %s\n", v.Version, v.Source, printable(v.Actor), v.At,
		printable(v.Reason))
}

// leftOutLine names the overridden keys that have no effect.
func leftOutLine(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return "set, but not taken by this instance's version: " + printable(strings.Join(keys, ", ")) + "\n"
}

func newConfigSetCommand(c *cli) *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:   "set KEY=VALUE…",
		Short: "Change hot keys of all running instances",
		Long: "set changes all keys named or none. KEY= alone goes back to flag, environment, file or default.\n" +
			"Keys that are not hot need a restart and are refused.",
		Example: "  sluice config set pool.size=16 queue.batch=400 --reason 'larger database'\n" +
			"  sluice config set pool.size= --reason 'as it was'",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, unset, err := assignments(args)
			if err != nil {
				return err
			}
			request := opsclient.Request{Method: http.MethodPatch, Path: "/config",
				Body: flags.body(map[string]any{"set": set, "unset": unset})}
			return c.changeVersion(cmd.Context(), "/config", 3, request, configTable())
		},
	}
	flags.add(cmd)
	return c.opsCommand(cmd)
}

// assignments reads KEY=VALUE and KEY= arguments.
func assignments(args []string) (set map[string]any, unset []string, err error) {
	set, unset = map[string]any{}, []string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		switch {
		case !ok || key == "":
			return nil, nil, badUsage("wants KEY=VALUE such as pool.size=16, got %q", arg)
		case value == "":
			unset = append(unset, key)
		default:
			set[key] = value
		}
	}
	return set, unset, nil
}

func newConfigRevertCommand(c *cli) *cobra.Command {
	return newRevertCommand(c, revert{"/config", configTable(), "Bring all hot keys back to an earlier version",
		"sluice config revert --to 12 --reason 'was better'"})
}

// revert describes a command that brings back an earlier version of the settings at a path.
type revert struct {
	path           string
	show           layout
	short, example string
}

func newRevertCommand(c *cli, r revert) *cobra.Command {
	var body api.ConfigRevert
	cmd := &cobra.Command{
		Use:     "revert",
		Short:   r.short,
		Example: "  " + r.example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if body.To < 0 {
				return badUsage("--to must be a version, got %d", body.To)
			}
			request := opsclient.Request{Method: http.MethodPost, Path: r.path + "/revert", Body: body}
			return c.changeVersion(cmd.Context(), r.path, 1, request, r.show)
		},
	}
	cmd.Flags().Int64Var(&body.To, "to", 0, "the version (default: the newest that makes a difference)")
	reasonFlag(cmd, &body.Reason)
	return c.opsCommand(cmd)
}

func newConfigVersionsCommand(c *cli) *cobra.Command {
	cmd := listCommand[api.ConfigVersionValues]{
		use: "versions", short: "List what was changed while running, newest first",
		example: "  sluice config versions",
		member:  "versions", paging: opsclient.ByVersion(), what: "versions", limit: 20,
		request: get("/config/versions"),
		header:  []string{"VERSION", "AT", "BY", "SOURCE", "REASON"},
		row: func(v api.ConfigVersionValues) []string {
			return []string{number(v.Version), v.At, printable(v.Actor), v.Source, printable(v.Reason)}
		},
	}.command(c)
	c.opsFlag(cmd)
	return cmd
}

func newConfigReloadCommand(c *cli) *cobra.Command {
	var body api.WithReason
	cmd := &cobra.Command{
		Use:     "reload",
		Short:   "Make an instance read its file again",
		Example: "  sluice config reload --reason 'new limits'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			request := opsclient.Request{Method: http.MethodPost, Path: "/reload", Body: body}
			return c.call(cmd.Context(), request, newLayout(reloadLines))
		},
	}
	reasonFlag(cmd, &body.Reason)
	return c.opsCommand(cmd)
}

func reloadLines(r api.Reload) string {
	lines := fmt.Sprintf("version %d\n", r.Version)
	for _, key := range r.Changed {
		lines += "changed        " + printable(key) + "\n"
	}
	for _, key := range r.Overridden {
		lines += "overridden     " + printable(key) + ": what operators have set counts\n"
	}
	for _, key := range r.NeedsRestart {
		lines += "needs restart  " + printable(key) + "\n"
	}
	return lines
}

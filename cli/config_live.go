package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newConfigShowCommand(c *cli) *cobra.Command {
	return c.opsCommand(&cobra.Command{
		Use:     "show",
		Short:   "Show the configuration of a running instance, with its version",
		Example: "  sluice config show --ops http://10.0.0.7:8081",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.fetch(cmd, "/config", configTable) },
	})
}

func configTable(text []byte) (string, error) {
	var view configView
	if err := json.Unmarshal(text, &view); err != nil {
		return "", err
	}
	rows := [][]string{{"KEY", "VALUE", "SOURCE", "UNTIL"}}
	for _, k := range view.Keys {
		value, err := json.Marshal(k.Value)
		if err != nil {
			return "", err
		}
		until := k.Until
		for _, sale := range slices.Sorted(maps.Keys(k.UntilOf)) {
			until = strings.TrimSpace(until + " " + sale + " " + k.UntilOf[sale])
		}
		rows = append(rows, []string{k.Key, printable(string(value)), printable(k.Source), printable(until)})
	}
	return view.line() + leftLine(view.Left) + table(rows...), nil
}

// line says which version counts and who made it.
func (v configView) line() string {
	if v.Version == 0 {
		return "version 0, as started\n"
	}
	return fmt.Sprintf("version %d, %s by %s at %s %s\n", v.Version, v.Source, printable(v.Actor), v.At, printable(v.Reason))
}

// leftLine says which keys do not count although operators have set them.
func leftLine(left []string) string {
	if len(left) == 0 {
		return ""
	}
	return "set, but not taken by this instance's version: " + printable(strings.Join(left, ", ")) + "\n"
}

func newConfigSetCommand(c *cli) *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:   "set KEY=VALUE…",
		Short: "Change hot keys of all running instances",
		Long: "set changes all keys named or none. KEY= alone goes back to flag, environment, file or default.\n" +
			"Keys that are not hot need a restart and are refused.",
		Example: "  sluice config set pool.size=16 queue.batch=400 --reason 'larger database'\n  sluice config set pool.size= --reason 'as it was'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, unset, err := assignments(args)
			if err != nil {
				return err
			}
			body := flags.body(map[string]any{"set": set, "unset": unset})
			return c.withVersion(cmd.Context(), "/config", 3, configTable, func(ctx context.Context, o *opsClient, match string) ([]byte, error) {
				return o.callIf(ctx, http.MethodPatch, "/config", match, body)
			})
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
	return newRevertCommand(c, "/config", configTable, "Bring all hot keys back to an earlier version", "sluice config revert --to 12 --reason 'was better'")
}

// newRevertCommand brings what is at path back to an earlier version.
func newRevertCommand(c *cli, path string, show func([]byte) (string, error), short, example string) *cobra.Command {
	var to int64
	var reason string
	cmd := &cobra.Command{
		Use:     "revert",
		Short:   short,
		Example: "  " + example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to < 0 {
				return badUsage("--to must be a version, got %d", to)
			}
			return c.withVersion(cmd.Context(), path, 1, show, func(ctx context.Context, o *opsClient, match string) ([]byte, error) {
				return o.callIf(ctx, http.MethodPost, path+"/revert", match, map[string]any{"to": to, "reason": reason})
			})
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "the version (default: the newest that makes a difference)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return c.opsCommand(cmd)
}

func newConfigVersionsCommand(c *cli) *cobra.Command {
	var before int64
	cmd := &cobra.Command{
		Use:     "versions",
		Short:   "List what was changed while running, newest first",
		Example: "  sluice config versions",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/config/versions"
			if before > 0 {
				path += "?before=" + strconv.FormatInt(before, 10)
			}
			return c.fetch(cmd, path, versionsTable)
		},
	}
	cmd.Flags().Int64Var(&before, "before", 0, "only versions older than this one")
	return c.opsCommand(cmd)
}

func versionsTable(text []byte) (string, error) {
	var list struct {
		Versions []configView `json:"versions"`
		Next     int64        `json:"next"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"VERSION", "AT", "BY", "SOURCE", "REASON"}}
	for _, v := range list.Versions {
		rows = append(rows, []string{number(v.Version), v.At, printable(v.Actor), v.Source, printable(v.Reason)})
	}
	more := ""
	if list.Next > 0 {
		more = fmt.Sprintf("more with --before %d\n", list.Next)
	}
	return table(rows...) + more, nil
}

func newConfigReloadCommand(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "reload",
		Short:   "Make an instance read its file again",
		Example: "  sluice config reload --reason 'new limits'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.call(ctx, http.MethodPost, "/reload", map[string]string{"reason": reason})
				if err != nil {
					return err
				}
				return c.printShown(text, reloadLines)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return c.opsCommand(cmd)
}

func reloadLines(text []byte) (string, error) {
	var r struct {
		Version      int64    `json:"version"`
		Changed      []string `json:"changed"`
		Overridden   []string `json:"overridden"`
		NeedsRestart []string `json:"needs_restart"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return "", err
	}
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
	return lines, nil
}

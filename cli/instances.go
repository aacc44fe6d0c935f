package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func newInstancesCommand(c *cli) *cobra.Command {
	return c.opsCommand(&cobra.Command{
		Use:     "instances",
		Short:   "List the processes that run, with their versions",
		Example: "  sluice instances",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.fetch(cmd, "/instances", instancesTable) },
	})
}

func instancesTable(text []byte) (string, error) {
	var list struct {
		Instances []struct {
			ID            string   `json:"id"`
			Roles         []string `json:"roles"`
			Version       string   `json:"version"`
			ConfigVersion int64    `json:"config_version"`
			ConfigFile    string   `json:"config_file"`
			Payments      bool     `json:"payments"`
			SchemaOldest  int64    `json:"schema_oldest"`
			SchemaNewest  int64    `json:"schema_newest"`
			StartedAt     string   `json:"started_at"`
			LastSeen      string   `json:"last_seen"`
		} `json:"instances"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"INSTANCE", "ROLES", "VERSION", "CONFIGURATION", "FILE", "PAYMENTS", "SCHEMA", "STARTED", "LAST SEEN"}}
	for _, i := range list.Instances {
		payments := "off"
		if i.Payments {
			payments = "on"
		}
		schema := "not told"
		if i.SchemaNewest > 0 {
			schema = number(i.SchemaOldest) + " to " + number(i.SchemaNewest)
		}
		rows = append(rows, []string{printable(i.ID), printable(strings.Join(i.Roles, ",")), printable(i.Version), number(i.ConfigVersion),
			printable(i.ConfigFile), payments, schema, i.StartedAt, i.LastSeen})
	}
	return table(rows...), nil
}

func newLogLevelCommand(c *cli) *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:     "log-level [debug|info|warn|error]",
		Short:   "Show or change what all running instances log",
		Example: "  sluice log-level\n  sluice log-level debug --for 5m --reason 'looking for lost orders'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.fetch(cmd, "/log-level", logLevelLine)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.call(ctx, http.MethodPut, "/log-level", flags.body(map[string]any{"level": args[0]}))
				if err != nil {
					return err
				}
				return c.printShown(text, logLevelLine)
			})
		},
	}
	flags.add(cmd)
	return c.opsCommand(cmd)
}

func logLevelLine(text []byte) (string, error) {
	var l struct {
		Level string `json:"level"`
		Until string `json:"until"`
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return "", err
	}
	if l.Until != "" {
		return printable(l.Level) + " until " + l.Until + "\n", nil
	}
	return printable(l.Level) + "\n", nil
}

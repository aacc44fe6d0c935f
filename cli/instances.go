package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newInstancesCommand(c *cli) *cobra.Command {
	cmd := listCommand[api.Instance]{
		use: "instances", short: "List the processes that run, with their versions",
		example: "  sluice instances",
		member:  "instances",
		request: get("/instances"),
		header: []string{"INSTANCE", "ROLES", "VERSION", "CONFIGURATION", "FILE", "PAYMENTS", "SCHEMA", "SALES",
			"TOPICS",
			"STARTED", "LAST SEEN"},
		row: func(i api.Instance) []string {
			payments := "off"
			if i.Payments {
				payments = "on"
			}
			schema := "not told"
			if i.SchemaNewest > 0 {
				schema = number(i.SchemaOldest) + " to " + number(i.SchemaNewest)
			}
			return []string{printable(i.ID), printable(strings.Join(i.Roles, ",")), printable(i.Version),
				number(i.ConfigVersion), printable(i.ConfigFile), payments, schema,
				patterns(i.Sales), patterns(i.Topics), i.StartedAt, i.LastSeen}
		},
	}.command(c)
	c.opsFlag(cmd)
	return cmd
}

func newWorkersCommand(c *cli) *cobra.Command {
	cmd := listCommand[api.Taken]{
		use: "workers", short: "List which processes take which sales and topics, and what nobody takes",
		example: "  sluice workers",
		member:  "taken",
		request: get("/workers"),
		header:  []string{"KIND", "NAME", "TAKEN BY"},
		row: func(t api.Taken) []string {
			by := "NOBODY"
			if len(t.Instances) > 0 {
				by = strings.Join(t.Instances, ", ")
			}
			return []string{t.Kind, printable(t.Name), printable(by)}
		},
	}.command(c)
	c.opsFlag(cmd)
	return cmd
}

func newLogLevelCommand(c *cli) *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use:     "log-level [debug|info|warn|error]",
		Short:   "Show or change what all running instances log",
		Example: "  sluice log-level\n  sluice log-level debug --for 5m --reason 'looking for lost orders'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := opsclient.Request{Method: http.MethodGet, Path: "/log-level"}
			if len(args) == 1 {
				request.Method, request.Body = http.MethodPut, flags.body(map[string]any{"level": args[0]})
			}
			return c.call(cmd.Context(), request, newLayout(logLevelLine))
		},
	}
	flags.add(cmd)
	return c.opsCommand(cmd)
}

func logLevelLine(l api.LogLevel) string {
	if l.Until != "" {
		return printable(l.Level) + " until " + l.Until + "\n"
	}
	return printable(l.Level) + "\n"
}

// patterns shows what a process takes.
func patterns(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return printable(strings.Join(list, ","))
}

package cli

import (
	"net/http"
	"strings"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newSwitchCommand(c *cli) *cobra.Command {
	show := c.opsCommand(&cobra.Command{
		Use:     "show",
		Short:   "Show both switches",
		Example: "  sluice switch show",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.fetch(cmd.Context(), "/switches", newLayout(switchLines))
		},
	})
	return newGroup("switch", "Stop or allow taking orders in, and working them off",
		"  sluice switch admission off --reason 'payment is down'\n  sluice switch drain off --sale phone --for 5m",
		show,
		newSwitchOneCommand(c, "admission",
			"Take new orders, or none in any gateway: they answer as if every sale were paused", false),
		newSwitchOneCommand(c, "drain", "Let workers claim orders, or none: accepted orders wait in line", true))
}

func newSwitchOneCommand(c *cli, name, short string, bySale bool) *cobra.Command {
	var flags changeFlags
	var sale string
	cmd := &cobra.Command{
		Use:       name + " on|off",
		Short:     short,
		Example:   "  sluice switch " + name + " off --reason 'bad deployment'\n  sluice switch " + name + " on",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"on", "off"},
		RunE: func(cmd *cobra.Command, args []string) error {
			body := flags.body(map[string]any{"on": args[0] == "on"})
			if sale != "" {
				if err := checkSaleID(sale); err != nil {
					return err
				}
				body["sale"] = sale
			}
			request := opsclient.Request{Method: http.MethodPut, Path: "/switches/" + name, Body: body}
			return c.call(cmd.Context(), request, newLayout(switchLines))
		},
	}
	if bySale {
		cmd.Flags().StringVar(&sale, "sale", "", "this sale's line alone")
	}
	flags.add(cmd)
	return c.opsCommand(cmd)
}

func switchLines(s api.Switches) string {
	shown := func(name, state string) string {
		if until := s.Until[name]; until != "" {
			state += " until " + until
		}
		return printable(state)
	}
	word := map[bool]string{true: "on", false: "off"}
	rows := [][]string{
		{"admission", shown("admission", word[s.Admission])}, {"drain", shown("drain", word[s.Drain])},
	}
	held := make([]string, len(s.Held))
	for i, sale := range s.Held {
		held[i] = shown("held."+sale, sale)
	}
	if len(held) > 0 {
		rows = append(rows, []string{"drain off for", strings.Join(held, ", ")})
	}
	return leftOutLine(s.Left) + table(rows...)
}

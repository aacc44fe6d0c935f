package cli

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newLimitsCommand(c *cli) *cobra.Command {
	show := c.opsCommand(&cobra.Command{
		Use:     "show",
		Short:   "Show the rate limits that count",
		Example: "  sluice limits show",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.fetch(cmd.Context(), "/limits", limitsTable()) },
	})
	return newGroup("limits", "Show and change rate limits while a sale runs",
		"  sluice limits set global_rps=5000 --for 10m --reason 'slow database'\n  sluice limits revert",
		show, newLimitsSetCommand(c),
		newRevertCommand(c, revert{"/limits", limitsTable(), "Bring all limits back to an earlier version",
			"sluice limits revert --reason 'the rush is over'"}))
}

func newLimitsSetCommand(c *cli) *cobra.Command {
	var flags changeFlags
	var sale string
	cmd := &cobra.Command{
		Use:   "set LIMIT=N…",
		Short: "Change limits of all running instances",
		Long: "set changes all limits named or none: global_rps, per_user_rps (orders), per_user_reads_rps " +
			"(polls, lists and\ncancellations), per_ip_rps (requests without a valid token), and of each its " +
			"_burst.\nLIMIT= alone goes back to flag, environment, file or default. With --sale the limits named " +
			"become all that this sale\nhas of its own; --sale with no limit takes them away. With --for each " +
			"sale's limits end by themselves.",
		Example: "  sluice limits set global_rps=5000 global_burst=5000\n  sluice limits set --sale phone " +
			"per_user_rps=1 --reason bots",
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := limitsPatch(sale, args)
			if err != nil {
				return err
			}
			request := opsclient.Request{Method: http.MethodPatch, Path: "/limits",
				Body: flags.body(map[string]any{"limits": limits})}
			return c.changeVersion(cmd.Context(), "/limits", 3, request, limitsTable())
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the limits of this sale alone")
	flags.add(cmd)
	return c.opsCommand(cmd)
}

// limitsPatch returns the limits of a request body for the arguments; null removes a limit.
func limitsPatch(sale string, args []string) (map[string]any, error) {
	set, unset, err := assignments(args)
	if err != nil {
		return nil, err
	}
	limits := map[string]any{}
	for name, text := range set {
		n, err := strconv.ParseFloat(text.(string), 64)
		if err != nil {
			return nil, badUsage("%s wants a number, got %q", name, text)
		}
		limits[name] = n
	}
	if sale == "" {
		if len(args) == 0 {
			return nil, badUsage("names no limit to change: LIMIT=N such as global_rps=5000")
		}
		for _, name := range unset {
			limits[name] = nil
		}
		return limits, nil
	}
	if err := checkSaleID(sale); err != nil {
		return nil, err
	}
	if len(limits) == 0 {
		return map[string]any{"sales": map[string]any{sale: nil}}, nil
	}
	return map[string]any{"sales": map[string]any{sale: limits}}, nil
}

func limitsTable() layout { return newLayout(showLimits) }

func showLimits(view api.Limits) string {
	rows := [][]string{{"LIMIT", "VALUE", "UNTIL"}}
	limits := view.Limits
	sales, _ := limits["sales"].(map[string]any)
	delete(limits, "sales")
	for sale, own := range sales {
		limits["sales."+sale] = own
	}
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		rows = append(rows, []string{name, printable(compactJSON(limits[name])), view.Until[name]})
	}
	return versionLine(view.ConfigVersion) + leftOutLine(view.Left) + table(rows...)
}

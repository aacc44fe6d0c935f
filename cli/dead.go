package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/order/deadletter"
)

func newDeadCommand(c *cli) *cobra.Command {
	cmd := newGroup("dead", "Look after tickets that were given up on",
		"  sluice dead list --sale summer\n  sluice dead requeue --sale summer --reason 'database is well again' --all",
		newDeadListCommand(c), newDeadShowCommand(c),
		newDeadActionCommand(c, deadAction{"requeue", "requeued", "Try a dead letter again",
			"It needs a unit and its shopper's slot again; its attempts are forgotten."}),
		newDeadActionCommand(c, deadAction{"drop", "dropped", "Forget a dead letter",
			"Its order stays failed; its units are back on sale already."}))
	c.opsFlag(cmd)
	return cmd
}

func newDeadListCommand(c *cli) *cobra.Command {
	var sale string
	var filter deadFilter
	return listCommand[api.DeadLetter]{
		use: "list", short: "List the dead letters of a sale, newest first",
		example: "  sluice dead list --sale summer --limit 100 --reason internal_error",
		member:  "dead", paging: opsclient.BySkip(), what: "dead letters", limit: 20,
		flags: func(cmd *cobra.Command) {
			saleFlag(cmd, &sale)
			filter.addFlags(cmd, "reason")
		},
		request: func([]string) (listRequest, error) {
			r := listRequest{path: deadPath(sale, ""), query: filter.params("reason"), about: "sale " + sale}
			if err := checkSaleID(sale); err != nil {
				return r, err
			}
			return r, filter.check()
		},
		header: []string{"ORDER", "USER", "QUANTITY", "FAILED", "REASON"},
		row: func(d api.DeadLetter) []string {
			return []string{printable(d.OrderID), printable(d.User), strconv.Itoa(d.Quantity), d.FailedAt, whyDead(d)}
		},
	}.command(c)
}

func whyDead(d api.DeadLetter) string {
	if d.Unreadable {
		return "unreadable: it can only be dropped"
	}
	return printable(d.Reason)
}

func newDeadShowCommand(c *cli) *cobra.Command {
	var sale string
	cmd := &cobra.Command{
		Use:     "show ORDER",
		Short:   "Show one dead letter",
		Example: "  sluice dead show --sale summer 0198c0de-7a1b-7c3d-8e9f-0123456789ab",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDead(sale, args[0]); err != nil {
				return err
			}
			err := c.fetch(cmd.Context(), deadPath(sale, args[0]), newLayout(deadCard))
			return wrapError(fmt.Sprintf("dead letter %s of sale %s", args[0], sale), err)
		},
	}
	saleFlag(cmd, &sale)
	c.jsonFlag(cmd)
	return cmd
}

func deadCard(d api.DeadLetter) string {
	return table([]string{"order", printable(d.OrderID)}, []string{"user", printable(d.User)},
		[]string{"quantity", strconv.Itoa(d.Quantity)}, []string{"admitted", d.AdmittedAt},
		[]string{"failed", d.FailedAt}, []string{"reason", whyDead(d)})
}

func checkDead(sale, id string) error {
	if err := checkSaleID(sale); err != nil {
		return err
	}
	if id == "" || len(id) > 64 || strings.ContainsAny(id, "/?#") {
		return badUsage("an order's id is at most 64 characters without / ? #, got %q", id)
	}
	return nil
}

func deadPath(sale, id string) string {
	path := "/sales/" + sale + "/dead"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return path
}

// deadAction is requeue or drop, with the words of its command.
type deadAction struct{ verb, done, short, long string }

func newDeadActionCommand(c *cli, action deadAction) *cobra.Command {
	change, run := deadChange{action: action}, "  sluice dead "+action.verb+" --sale summer --reason "
	cmd := &cobra.Command{
		Use:   action.verb + " [ORDER]",
		Short: action.short,
		Long: action.short + ". " + action.long + "\nNames one ORDER, or those that fit a filter, or --all. " +
			"Of many the oldest come first, at most --limit in a call, and it says how many are left.",
		Example: run + "'checked by hand' 0198c0de-7a1b-7c3d-8e9f-0123456789ab\n" +
			run + "'the database is mended' --since 2026-11-11T00:00:00+08:00\n" +
			run + "'the database is mended' --all",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := change.check(args); err != nil {
				return err
			}
			if len(args) == 0 {
				return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
					return c.changeMany(ctx, o, change)
				})
			}
			request := opsclient.Request{Method: http.MethodPost,
				Path: deadPath(change.sale, args[0]) + "/" + action.verb,
				Body: api.WithReason{Reason: change.reason}}
			what := fmt.Sprintf("%s dead letter %s of sale %s", action.verb, args[0], change.sale)
			return wrapError(what, c.call(cmd.Context(), request, nil))
		},
	}
	saleFlag(cmd, &change.sale)
	reasonFlag(cmd, &change.reason)
	cmd.Flags().BoolVar(&change.all, "all", false, "all dead letters of the sale")
	cmd.Flags().IntVar(&change.limit, "limit", deadletter.DefaultLetters,
		"dead letters tried in this call, at most 10000")
	cmd.Flags().Int64Var(&change.skip, "skip", 0, "oldest ones to leave alone: what the call before said")
	change.filter.addFlags(cmd, "failed-reason")
	c.jsonFlag(cmd)
	return cmd
}

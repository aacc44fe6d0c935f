package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/order"
)

// deadView is a dead letter as operators see it.
type deadView struct {
	OrderID    string `json:"order_id"`
	User       string `json:"user"`
	Quantity   int    `json:"quantity"`
	Reason     string `json:"reason"`
	AdmittedAt string `json:"admitted_at"`
	FailedAt   string `json:"failed_at"`
	Unreadable bool   `json:"unreadable"`
}

func newDeadCommand(c *cli) *cobra.Command {
	cmd := newGroup("dead", "Look after tickets that were given up on",
		"  sluice dead list --sale summer\n  sluice dead requeue --sale summer --reason 'database is well again' --all",
		newDeadListCommand(c), newDeadShowCommand(c),
		newDeadActionCommand(c, "requeue", "Try a dead letter again", "It needs a unit and its shopper's slot again; its attempts are forgotten."),
		newDeadActionCommand(c, "drop", "Forget a dead letter", "Its order stays failed; its units are back on sale already."))
	c.opsFlag(cmd)
	return cmd
}

func newDeadListCommand(c *cli) *cobra.Command {
	var sale string
	var skip, limit int
	var filter deadFilter
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the dead letters of a sale, newest first",
		Example: "  sluice dead list --sale summer --limit 100 --reason internal_error",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			if limit < 1 || limit > 100 || skip < 0 {
				return badUsage("--limit must be between 1 and 100 and --skip 0 or more, got %d and %d", limit, skip)
			}
			if err := filter.check(); err != nil {
				return err
			}
			query := filter.query(url.Values{"limit": {strconv.Itoa(limit)}, "skip": {strconv.Itoa(skip)}})
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, deadPath(sale, "")+"?"+query.Encode())
				if err != nil {
					return aboutSale(sale, err)
				}
				return c.printDead(o, text)
			})
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	cmd.Flags().IntVar(&limit, "limit", 20, "dead letters to list, at most 100")
	cmd.Flags().IntVar(&skip, "skip", 0, "newer ones to leave out")
	filter.flags(cmd, "reason")
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) printDead(o *opsClient, text []byte) error {
	if c.asJSON {
		return c.printRaw(text)
	}
	var list struct {
		Dead []deadView `json:"dead"`
		Next int        `json:"next"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return o.at(fmt.Errorf("the list of dead letters is not readable: %w", err))
	}
	rows := [][]string{{"ORDER", "USER", "QUANTITY", "FAILED", "REASON"}}
	for _, d := range list.Dead {
		rows = append(rows, []string{printable(d.OrderID), printable(d.User), strconv.Itoa(d.Quantity), d.FailedAt, d.why()})
	}
	more := ""
	if list.Next > 0 {
		more = fmt.Sprintf("more with --skip %d\n", list.Next)
	}
	return c.print(table(rows...) + more)
}

func (d deadView) why() string {
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
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, deadPath(sale, args[0]))
				if err != nil {
					return fmt.Errorf("dead letter %s of sale %s: %w", args[0], sale, err)
				}
				if c.asJSON {
					return c.printRaw(text)
				}
				var d deadView
				if err := json.Unmarshal(text, &d); err != nil {
					return o.at(fmt.Errorf("dead letter %s is not readable: %w", args[0], err))
				}
				return c.print(table([]string{"order", printable(d.OrderID)}, []string{"user", printable(d.User)}, []string{"quantity", strconv.Itoa(d.Quantity)},
					[]string{"admitted", d.AdmittedAt}, []string{"failed", d.FailedAt}, []string{"reason", d.why()}))
			})
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	return cmd
}

func newDeadActionCommand(c *cli, action, short, long string) *cobra.Command {
	change, run := deadChange{action: action}, "  sluice dead "+action+" --sale summer --reason "
	cmd := &cobra.Command{
		Use:   action + " [ORDER]",
		Short: short,
		Long: short + ". " + long + "\nNames one ORDER, or those that fit a filter, or --all. " +
			"Of many the oldest come first, at most --limit in a call, and it says how many are left.",
		Example: run + "'checked by hand' 0198c0de-7a1b-7c3d-8e9f-0123456789ab\n" +
			run + "'the database is mended' --since 2026-11-11T00:00:00+08:00\n" +
			run + "'the database is mended' --all",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := change.check(args); err != nil {
				return err
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				if len(args) == 0 {
					return c.changeMany(ctx, o, change)
				}
				body := map[string]string{"reason": change.reason}
				_, err := o.call(ctx, http.MethodPost, deadPath(change.sale, args[0])+"/"+action, body)
				if err != nil {
					return fmt.Errorf("%s dead letter %s of sale %s: %w", action, args[0], change.sale, err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&change.sale, "sale", "", "the sale (required)")
	cmd.Flags().StringVar(&change.reason, "reason", "", "why, for the admin log")
	cmd.Flags().BoolVar(&change.all, "all", false, "all dead letters of the sale")
	cmd.Flags().IntVar(&change.limit, "limit", order.DefaultLetters, "dead letters tried in this call, at most 10000")
	cmd.Flags().Int64Var(&change.skip, "skip", 0, "oldest ones to leave alone: what the call before said")
	change.filter.flags(cmd, "failed-reason")
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	return cmd
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

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/queue"
)

func newSaleCommand(c *cli) *cobra.Command {
	cmd := newGroup("sale", "Create, watch and change sales",
		"  sluice sale list\n  sluice sale pause summer --reason 'wrong price'",
		newSaleCreateCommand(c), newSaleListCommand(c), newSaleShowCommand(c),
		newSaleStateCommand(c, "open", "Open a sale: it sells within its window"),
		newSaleStateCommand(c, "pause", "Pause a sale: new orders are refused, accepted ones go on"),
		newSaleStateCommand(c, "close", "Close a sale for good"),
		newSaleSetCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newSaleListCommand(c *cli) *cobra.Command {
	return listCommand[api.AdminSale]{
		use: "list", short: "List sales, newest first",
		example: "  sluice sale list --ops http://10.0.0.7:8081\n  sluice sale list --limit 20",
		member:  "sales", paging: opsclient.ByCursor(), what: "sales", limit: maxShown,
		request: get("/sales"),
		header:  []string{"SALE", "STATE", "REMAINING", "STOCK", "IN LINE", "LIMIT", "STARTS", "ENDS", "TITLE"},
		row: func(s api.AdminSale) []string {
			return []string{printable(s.ID), s.State, number(s.Remaining), number(s.StockTotal), depth(s.Line),
				strconv.Itoa(s.PerUserLimit), s.StartsAt, s.EndsAt, printable(s.Title)}
		},
	}.command(c)
}

func newSaleShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show SALE",
		Short:   "Show one sale and its line",
		Example: "  sluice sale show summer",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSale(cmd, args[0], func(ctx context.Context, o *opsclient.Client) ([]byte, error) {
				return o.Get(ctx, "/sales/"+args[0])
			})
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func newSaleStateCommand(c *cli, verb, short string) *cobra.Command {
	var body api.WithReason
	cmd := &cobra.Command{
		Use:     verb + " SALE",
		Short:   short,
		Example: "  sluice sale " + verb + " summer --reason 'as planned'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSale(cmd, args[0], func(ctx context.Context, o *opsclient.Client) ([]byte, error) {
				return o.Call(ctx, http.MethodPost, "/sales/"+args[0]+"/"+verb, body)
			})
		},
	}
	reasonFlag(cmd, &body.Reason)
	c.jsonFlag(cmd)
	return cmd
}

// withSale sends a request that is answered with a sale, and prints that sale.
func (c *cli) withSale(
	cmd *cobra.Command, id string, do func(context.Context, *opsclient.Client) ([]byte, error),
) error {
	if err := checkSaleID(id); err != nil {
		return err
	}
	return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
		text, err := do(ctx, o)
		if err != nil {
			return wrapSaleError(id, err)
		}
		if c.asJSON {
			return c.printRaw(text)
		}
		var sale api.AdminSale
		if err := json.Unmarshal(text, &sale); err != nil {
			return o.Wrap(fmt.Errorf("sale %s is not readable: %w", id, err))
		}
		return c.print(saleCard(sale))
	})
}

func checkSaleID(id string) error {
	if !queue.ValidSaleID(id) {
		return badUsage("a sale's id is 1 to 64 letters, digits, '-' or '_', starting with a letter or digit, got %q",
			id)
	}
	return nil
}

// saleFlag adds the required flag --sale.
func saleFlag(cmd *cobra.Command, sale *string) {
	cmd.Flags().StringVar(sale, "sale", "", "the sale (required)")
	needFlags(cmd, "sale")
}

// wrapSaleError adds the sale to an error.
func wrapSaleError(id string, err error) error {
	if id == "" {
		return err
	}
	return wrapError("sale "+id, err)
}

func saleCard(s api.AdminSale) string {
	state := s.State
	if s.AdminState != "" && s.AdminState != s.State {
		state += " (set to " + s.AdminState + ")"
	}
	rows := [][]string{{"sale", printable(s.ID)}, {"title", printable(s.Title)}, {"sku", printable(s.SKU)},
		{"price", amount(s.PriceCents, s.Currency)}, {"state", state}, {"starts", s.StartsAt}, {"ends", s.EndsAt},
		{"limit per user", strconv.Itoa(s.PerUserLimit)}, {"stock", number(s.StockTotal)},
		{"available in ledger", number(s.Available)}, {"remaining to reserve", number(s.Remaining)},
		{"in line", depth(s.Line)}}
	if line := s.Line; line != nil {
		rows = append(rows, []string{"oldest in line", seconds(line.OldestAgeSeconds)},
			[]string{"admitted per second", perSecond(line.Rates.Admitted)},
			[]string{"drained per second", perSecond(line.Rates.Drained)},
			[]string{"leased batches", number(line.LeasedBatches)},
			[]string{"waiting to retry", number(line.Retrying)}, []string{"dead letters", number(line.Dead)})
		if line.Rebuilding {
			rows = append(rows, []string{"line", "being rebuilt"})
		}
	}
	if s.InLine != nil && !*s.InLine {
		rows = append(rows, []string{"change", "made in the ledger; the line follows by itself"})
	}
	return table(rows...)
}

// depth formats how many tickets a line has and may have.
func depth(line *api.Line) string {
	switch {
	case line == nil:
		return "-"
	case line.Unread != "":
		return "unread"
	}
	return number(line.Depth) + "/" + number(line.Capacity)
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// orderView is an order as operators see it.
type orderView struct {
	OrderID     string `json:"order_id"`
	SaleID      string `json:"sale_id"`
	User        string `json:"user"`
	Status      string `json:"status"`
	Reason      string `json:"reason"`
	Quantity    int    `json:"quantity"`
	PriceCents  int64  `json:"price_cents"`
	Currency    string `json:"currency"`
	Position    *int64 `json:"position"`
	AdmittedAt  string `json:"admitted_at"`
	ConfirmedAt string `json:"confirmed_at"`
	EndedAt     string `json:"ended_at"`
}

func newOrderCommand(c *cli) *cobra.Command {
	cmd := newGroup("order", "Look orders up", "  sluice order list --sale summer\n  sluice order export --sale summer --format csv > orders.csv",
		newOrderShowCommand(c), newOrderListCommand(c), newOrderExportCommand(c), newOrderTimelineCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newOrderShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ORDER",
		Short:   "Show one order",
		Example: "  sluice order show 0198c0de-7a1b-7c3d-8e9f-0123456789ab",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if id == "" || len(id) > 64 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != "" {
				return badUsage("an order's id is letters, digits and '-', at most 64, got %q", id)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, "/orders/"+id)
				if err != nil {
					return fmt.Errorf("order %s: %w", id, err)
				}
				if c.asJSON {
					return c.printRaw(text)
				}
				var order orderView
				if err := json.Unmarshal(text, &order); err != nil {
					return o.at(fmt.Errorf("order %s is not readable: %w", id, err))
				}
				return c.print(orderCard(order))
			})
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func newOrderListCommand(c *cli) *cobra.Command {
	var sale string
	var page pageFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the newest orders of a sale",
		Long:    "list shows orders that have left the line; sluice sale show tells how many still wait in it, and sluice order export has all.",
		Example: "  sluice order list --sale summer --limit 50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			return aboutSale(sale, c.list(cmd, listing{path: "/sales/" + sale + "/orders", member: "orders"}, page, orderTable))
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	page.add(cmd, "orders", 20)
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	return cmd
}

func orderTable(text []byte) (string, error) {
	var list struct {
		Orders []orderView `json:"orders"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"ORDER", "USER", "STATUS", "REASON", "QUANTITY", "ADMITTED", "CONFIRMED"}}
	for _, order := range list.Orders {
		rows = append(rows, []string{printable(order.OrderID), printable(order.User), order.Status, dash(printable(order.Reason)),
			strconv.Itoa(order.Quantity), dash(order.AdmittedAt), dash(order.ConfirmedAt)})
	}
	return table(rows...), nil
}

// orders hands the orders of a sale to do, newest first, as pages does.
func (o *opsClient) orders(ctx context.Context, sale string, limit int, do func([]json.RawMessage) error) (string, error) {
	next, err := o.pages(ctx, listing{path: "/sales/" + sale + "/orders", member: "orders"}, limit, do)
	return next, aboutSale(sale, err)
}

func readOrder(text json.RawMessage) (order orderView, err error) {
	if err := json.Unmarshal(text, &order); err != nil {
		return order, fmt.Errorf("an order is not readable: %w", err)
	}
	return order, nil
}

func orderCard(o orderView) string {
	rows := [][]string{{"order", printable(o.OrderID)}, {"sale", printable(o.SaleID)}, {"user", printable(o.User)}, {"status", o.Status},
		{"reason", dash(printable(o.Reason))}, {"quantity", strconv.Itoa(o.Quantity)},
		{"price", fmt.Sprintf("%d.%02d %s", o.PriceCents/100, o.PriceCents%100, o.Currency)},
		{"admitted", dash(o.AdmittedAt)}, {"confirmed", dash(o.ConfirmedAt)}, {"ended", dash(o.EndedAt)}}
	if o.Position != nil {
		rows = append(rows, []string{"position", number(*o.Position)})
	}
	return table(rows...)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

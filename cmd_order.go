package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// orderPage is the most orders the operations listener lists at once.
const orderPage = 100

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
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the newest orders of a sale",
		Long:    "list shows orders that have left the line; sluice sale show tells how many still wait in it.",
		Example: "  sluice order list --sale summer --limit 50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			if limit < 1 || limit > 1000 {
				return badUsage("--limit must be between 1 and 1000, got %d; sluice order export has all", limit)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error { return c.listOrders(ctx, o, sale, limit) })
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	cmd.Flags().IntVar(&limit, "limit", 20, "orders to list, at most 1000")
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) listOrders(ctx context.Context, o *opsClient, sale string, limit int) error {
	list := struct {
		Orders     []json.RawMessage `json:"orders"`
		NextCursor string            `json:"next_cursor,omitempty"`
	}{Orders: []json.RawMessage{}}
	next, err := o.orders(ctx, sale, limit, func(page []json.RawMessage) error {
		list.Orders = append(list.Orders, page...)
		return nil
	})
	if err != nil {
		return err
	}
	if c.asJSON {
		list.NextCursor = next
		return c.printJSON(list)
	}
	rows := [][]string{{"ORDER", "USER", "STATUS", "REASON", "QUANTITY", "ADMITTED", "CONFIRMED"}}
	for _, text := range list.Orders {
		order, err := readOrder(text)
		if err != nil {
			return o.at(err)
		}
		rows = append(rows, []string{printable(order.OrderID), printable(order.User), order.Status, dash(printable(order.Reason)),
			strconv.Itoa(order.Quantity), dash(order.AdmittedAt), dash(order.ConfirmedAt)})
	}
	return c.print(table(rows...))
}

// orders hands the orders of a sale to do, newest first and page by page, at
// most limit of them or all when limit is 0. It returns where the next page
// begins, empty after the last.
func (o *opsClient) orders(ctx context.Context, sale string, limit int, do func([]json.RawMessage) error) (string, error) {
	cursor := ""
	for left := limit; ; {
		size := orderPage
		if limit > 0 {
			size = min(left, orderPage)
		}
		query := url.Values{"limit": {strconv.Itoa(size)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		text, err := o.get(ctx, "/sales/"+sale+"/orders?"+query.Encode())
		if err != nil {
			return "", aboutSale(sale, err)
		}
		var page struct {
			Orders     []json.RawMessage `json:"orders"`
			NextCursor string            `json:"next_cursor"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return "", o.at(fmt.Errorf("the orders of sale %s are not readable: %w", sale, err))
		}
		if err := do(page.Orders); err != nil {
			return "", err
		}
		left -= len(page.Orders)
		switch {
		case page.NextCursor == "" || limit > 0 && left <= 0:
			return page.NextCursor, nil
		case page.NextCursor == cursor || len(page.Orders) == 0:
			return "", o.at(fmt.Errorf("the pages of sale %s do not go on at cursor %q", sale, printable(cursor)))
		}
		cursor = page.NextCursor
	}
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

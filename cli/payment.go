package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

func newPaymentCommand(c *cli) *cobra.Command {
	cmd := newGroup("payment", "Look payments up", "  sluice payment list --outcome refund_required --sale summer", newPaymentListCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newPaymentListCommand(c *cli) *cobra.Command {
	var outcome, sale, cursor string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List payments, newest first",
		Long:    "list shows what the payment provider has told. The money of outcome refund_required and mismatch must go back.",
		Example: "  sluice payment list --outcome mismatch --limit 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100 {
				return badUsage("--limit must be between 1 and 100, got %d", limit)
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"outcome": outcome, "sale": sale, "cursor": cursor} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, "/payments?"+query.Encode())
				if err != nil {
					return fmt.Errorf("list payments: %w", err)
				}
				return c.printPayments(o, text)
			})
		},
	}
	cmd.Flags().StringVar(&outcome, "outcome", "", "accepted, late, refund_required or mismatch (default: all)")
	cmd.Flags().StringVar(&sale, "sale", "", "one sale (default: all)")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on where the page before ended")
	cmd.Flags().IntVar(&limit, "limit", 20, "payments to list, at most 100")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) printPayments(o *opsClient, text []byte) error {
	if c.asJSON {
		return c.printRaw(text)
	}
	var list struct {
		Payments []struct {
			PaymentID   string `json:"payment_id"`
			OrderID     string `json:"order_id"`
			SaleID      string `json:"sale_id"`
			AmountCents int64  `json:"amount_cents"`
			Currency    string `json:"currency"`
			Outcome     string `json:"outcome"`
			ReceivedAt  string `json:"received_at"`
		} `json:"payments"`
		NextCursor string `json:"next_cursor"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return o.at(fmt.Errorf("the list of payments is not readable: %w", err))
	}
	rows := [][]string{{"PAYMENT", "ORDER", "SALE", "AMOUNT", "OUTCOME", "RECEIVED"}}
	for _, p := range list.Payments {
		amount := fmt.Sprintf("%d.%02d %s", p.AmountCents/100, p.AmountCents%100, printable(p.Currency))
		rows = append(rows, []string{printable(p.PaymentID), printable(p.OrderID), printable(p.SaleID), amount, printable(p.Outcome), p.ReceivedAt})
	}
	more := ""
	if list.NextCursor != "" {
		more = "more with --cursor '" + printable(list.NextCursor) + "'\n"
	}
	return c.print(table(rows...) + more)
}

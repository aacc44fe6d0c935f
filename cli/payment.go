package cli

import (
	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newPaymentCommand(c *cli) *cobra.Command {
	cmd := newGroup("payment", "Look payments up", "  sluice payment list --outcome refund_required --sale summer",
		newPaymentListCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newPaymentListCommand(c *cli) *cobra.Command {
	var outcome, sale string
	return listCommand[api.Payment]{
		use: "list", short: "List payments, newest first",
		long: "list shows what the payment provider has told. " +
			"The money of outcome refund_required and mismatch must go back.",
		example: "  sluice payment list --outcome mismatch --limit 100",
		member:  "payments", paging: opsclient.ByCursor(), what: "payments", limit: 20,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&outcome, "outcome", "", "accepted, late, refund_required or mismatch (default: all)")
			cmd.Flags().StringVar(&sale, "sale", "", "one sale (default: all)")
		},
		request: func([]string) (listRequest, error) {
			query := map[string]string{"outcome": outcome, "sale": sale}
			return listRequest{path: "/payments", query: query, about: "list payments"}, nil
		},
		header: []string{"PAYMENT", "ORDER", "SALE", "AMOUNT", "OUTCOME", "RECEIVED"},
		row: func(p api.Payment) []string {
			return []string{printable(p.PaymentID), printable(p.OrderID), printable(p.SaleID),
				amount(p.AmountCents, p.Currency), printable(p.Outcome), p.ReceivedAt}
		},
	}.command(c)
}

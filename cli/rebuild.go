package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func newRebuildCommand(c *cli) *cobra.Command {
	var sale, reason string
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Rebuild a sale's line from the ledger",
		Long: "rebuild brings a line back into agreement with the ledger, counting the tickets that are left in it. Sluice does this\n" +
			"by itself when Redis lost or rolled back a line; meanwhile the sale answers that it is unavailable.",
		Example: "  sluice rebuild --sale summer --reason 'after the restore'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				if _, err := o.call(ctx, http.MethodPost, "/sales/"+sale+"/rebuild", map[string]string{"reason": reason}); err != nil {
					return aboutSale(sale, err)
				}
				return c.auditOnce(ctx, o, sale)
			})
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	needFlags(cmd, "sale")
	c.jsonFlag(cmd)
	c.opsFlag(cmd)
	return cmd
}

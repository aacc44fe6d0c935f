package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newOrderExportCommand(c *cli) *cobra.Command {
	var sale, format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all orders of a sale to standard output",
		Long: "export writes every order that has left the line, newest first, as CSV with a header or as one JSON array.\n" +
			"In CSV a cell that a spreadsheet would take for a formula starts with an apostrophe.",
		Example: "  sluice order export --sale summer --format csv > orders.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			export := map[string]func(context.Context, *opsClient, string, io.Writer) error{"csv": exportCSV, "json": exportJSON}[format]
			if export == nil {
				return badUsage("--format must be csv or json, got %q", format)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error { return export(ctx, o, sale, c.out) })
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	cmd.Flags().StringVar(&format, "format", "", "csv or json (required)")
	needFlags(cmd, "sale", "format")
	return cmd
}

// exportCSV holds one page at a time.
func exportCSV(ctx context.Context, o *opsClient, sale string, w io.Writer) error {
	out := csv.NewWriter(w)
	write := func(cells ...string) error {
		for i := range cells {
			cells[i] = harmless(cells[i])
		}
		return out.Write(cells)
	}
	if err := write("order_id", "sale_id", "user", "status", "reason", "quantity", "price_cents", "currency", "admitted_at", "confirmed_at", "ended_at"); err != nil {
		return err
	}
	_, err := o.orders(ctx, sale, 0, func(page []json.RawMessage) error {
		for _, text := range page {
			v, err := readOrder(text)
			if err != nil {
				return o.at(err)
			}
			if err := write(v.OrderID, v.SaleID, v.User, v.Status, v.Reason, strconv.Itoa(v.Quantity), number(v.PriceCents), v.Currency,
				v.AdmittedAt, v.ConfirmedAt, v.EndedAt); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	})
	return err
}

// harmless keeps a spreadsheet from executing a cell: users choose their own
// names.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// exportJSON writes the array piece by piece; it is closed only when every
// order is in it.
func exportJSON(ctx context.Context, o *opsClient, sale string, w io.Writer) error {
	separator := "[\n"
	_, err := o.orders(ctx, sale, 0, func(page []json.RawMessage) error {
		for _, text := range page {
			if _, err := fmt.Fprintf(w, "%s%s", separator, text); err != nil {
				return err
			}
			separator = ",\n"
		}
		return nil
	})
	if err != nil {
		return err
	}
	end := "\n]\n"
	if separator == "[\n" {
		end = "[]\n"
	}
	_, err = io.WriteString(w, end)
	return err
}

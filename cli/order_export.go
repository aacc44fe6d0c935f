package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newOrderExportCommand(c *cli) *cobra.Command {
	var sale, format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all orders of a sale to standard output",
		Long: "export writes every order that has left the line, newest first, as CSV with a header or as one " +
			"JSON array.\nIn CSV a cell that a spreadsheet would take for a formula starts with an apostrophe.",
		Example: "  sluice order export --sale summer --format csv > orders.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			export := map[string]exporter{"csv": exportCSV, "json": exportJSON}[format]
			if export == nil {
				return badUsage("--format must be csv or json, got %q", format)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
				return wrapSaleError(sale, export(ctx, o, sale, c.out))
			})
		},
	}
	saleFlag(cmd, &sale)
	cmd.Flags().StringVar(&format, "format", "", "csv or json (required)")
	needFlags(cmd, "format")
	return cmd
}

// exporter is a function that writes all orders of a sale.
type exporter func(ctx context.Context, o *opsclient.Client, sale string, w io.Writer) error

// allOrders calls do with every order of a sale, newest first, page by page.
func allOrders(ctx context.Context, o *opsclient.Client, sale string, do func([]json.RawMessage) error) error {
	list := opsclient.List{Path: ordersPath(sale), Member: "orders", Paging: opsclient.ByCursor()}
	return o.Pages(ctx, list, 0, func(page opsclient.Page) error { return do(page.Members) })
}

// exportCSV writes the orders as CSV, with one page in memory at a time.
func exportCSV(ctx context.Context, o *opsclient.Client, sale string, w io.Writer) error {
	out := csv.NewWriter(w)
	fields := slices.DeleteFunc(orderFields(), func(f orderField) bool { return f.column == "" })
	write := func(cell func(orderField) string) error {
		cells := make([]string, len(fields))
		for i, f := range fields {
			cells[i] = escapeFormula(cell(f))
		}
		return out.Write(cells)
	}
	if err := write(func(f orderField) string { return f.column }); err != nil {
		return err
	}
	return allOrders(ctx, o, sale, func(page []json.RawMessage) error {
		for _, text := range page {
			var v api.AdminOrder
			if err := json.Unmarshal(text, &v); err != nil {
				return o.Wrap(fmt.Errorf("an order is not readable: %w", err))
			}
			if err := write(func(f orderField) string { return f.text(v) }); err != nil {
				return err
			}
		}
		out.Flush()
		return out.Error()
	})
}

// exportJSON writes the orders as a JSON array, page by page. It closes the array only after the last order, so that a
// broken export is not valid JSON.
func exportJSON(ctx context.Context, o *opsclient.Client, sale string, w io.Writer) error {
	separator := "[\n"
	err := allOrders(ctx, o, sale, func(page []json.RawMessage) error {
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

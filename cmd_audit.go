package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/inventory"
)

// auditEvery is the pause of audit --watch.
const auditEvery = 2 * time.Second

func newAuditCommand(c *cli) *cobra.Command {
	var sale string
	var watch bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove that no unit was lost, doubled or leaked",
		Long: "audit compares the ledger with the orders and the lines, at any moment, and exits with 1 on any difference.\n" +
			"With --watch it repeats every two seconds until it is interrupted or finds one.",
		Example: "  sluice audit\n  sluice audit --sale summer --watch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("sale") {
				if err := checkSaleID(sale); err != nil {
					return err
				}
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				if watch {
					return c.watchAudit(ctx, o, sale)
				}
				return c.auditOnce(ctx, o, sale)
			})
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "audit only this sale")
	cmd.Flags().BoolVar(&watch, "watch", false, "repeat every two seconds")
	c.jsonFlag(cmd)
	c.opsFlag(cmd)
	return cmd
}

func (c *cli) watchAudit(ctx context.Context, o *opsClient, sale string) error {
	ticker := time.NewTicker(auditEvery)
	defer ticker.Stop()
	for {
		err := c.auditOnce(ctx, o, sale)
		if ctx.Err() != nil {
			return nil // interrupted, which is how a watch ends
		}
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// auditOnce prints one audit; the error names the sales that are not clean.
func (c *cli) auditOnce(ctx context.Context, o *opsClient, sale string) error {
	path := "/audit"
	if sale != "" {
		path += "?" + url.Values{"sale": {sale}}.Encode()
	}
	text, err := o.get(ctx, path)
	if err != nil {
		return aboutSale(sale, err)
	}
	var result inventory.Audit
	if err := json.Unmarshal(text, &result); err != nil {
		return o.at(fmt.Errorf("the audit is not readable: %w", err))
	}
	if c.asJSON {
		err = c.printRaw(text)
	} else {
		err = printAudit(c.out, result)
	}
	if err != nil || result.Clean {
		return err
	}
	var bad []string
	for _, s := range result.Sales {
		if !s.Clean {
			bad = append(bad, printable(s.Sale))
		}
	}
	return errors.New("the audit is not clean: " + strings.Join(bad, ", "))
}

// printAudit writes a table with a line per sale, each problem below, and the
// verdict.
func printAudit(w io.Writer, result inventory.Audit) error {
	rows := [][]string{{"SALE", "TOTAL", "AVAILABLE", "LIVE", "LINE STOCK", "IN FLIGHT", "DIFFERENCE", "PROBLEMS"}}
	var problems strings.Builder
	for _, s := range result.Sales {
		row := []string{printable(s.Sale)}
		for _, n := range []int64{s.Total, s.Available, s.Live, s.LineStock, s.InFlight, s.Difference, int64(len(s.Problems))} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, row)
		for _, problem := range s.Problems {
			fmt.Fprintf(&problems, "%s: %s\n", printable(s.Sale), printable(problem))
		}
	}
	verdict := "clean\n"
	if !result.Clean {
		verdict = "NOT CLEAN\n"
	}
	_, err := io.WriteString(w, table(rows...)+problems.String()+verdict)
	return err
}

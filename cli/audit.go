package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/inventory/audit"
)

// auditEvery is the pause of audit --watch.
const auditEvery = 2 * time.Second

func newAuditCommand(c *cli) *cobra.Command {
	var sale string
	var watch bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove that no unit was lost, doubled or leaked",
		Long: "audit compares the ledger with the orders and the lines, at any moment. It exits with 0 when all " +
			"is clean, with 1 on\nany difference, and with 3 when it could not look: a store or the operations " +
			"listener did not answer, or a line was\nbeing rebuilt. A difference that was found wins. With " +
			"--watch it repeats every two seconds until it is interrupted or\nfinds a difference; what could not " +
			"be looked at is printed with the time, and it goes on.",
		Example: "  sluice audit\n  sluice audit --sale summer --watch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("sale") {
				if err := checkSaleID(sale); err != nil {
					return err
				}
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
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

// watchAudit repeats the audit until ctx ends or a difference is found. It goes on after audits that could not be made.
func (c *cli) watchAudit(ctx context.Context, o *opsclient.Client, sale string) error {
	ticker := time.NewTicker(auditEvery)
	defer ticker.Stop()
	for {
		err := c.auditOnce(ctx, o, sale)
		if ctx.Err() != nil {
			return nil // interrupted, which is how a watch ends
		}
		if unknown, ok := errors.AsType[unknownError](err); ok {
			if _, err := fmt.Fprintf(c.err, "%s %v\n", c.now().Format(time.RFC3339), unknown); err != nil {
				return fmt.Errorf("write to standard error: %w", err)
			}
		} else if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// auditOnce prints one audit. The error names the sales that differ. An unknownError names sales that could not be
// audited.
func (c *cli) auditOnce(ctx context.Context, o *opsclient.Client, sale string) error {
	path := "/audit"
	if sale != "" {
		path += "?" + url.Values{"sale": {sale}}.Encode()
	}
	text, err := o.Get(ctx, path)
	if refused, ok := errors.AsType[opsclient.Error](err); ok && hasVerdict(refused.Body) {
		text, err = refused.Body, nil // a store does not answer: the refusal contains the result so far
	}
	if err != nil {
		return c.printUnknown(toUnknown(wrapSaleError(sale, err)))
	}
	var result audit.Report
	if err := json.Unmarshal(text, &result); err != nil {
		return c.printUnknown(unknownError{o.Wrap(fmt.Errorf("the audit is not readable: %w", err))})
	}
	if result.Verdict == "" && result.Clean != nil { // a server too old to send a verdict
		result.Verdict = audit.Different
		if *result.Clean {
			result.Verdict = audit.Clean
		}
	}
	if c.asJSON {
		err = c.printRaw(text)
	} else {
		err = printAudit(c.out, result)
	}
	return cmp.Or(err, auditError(result))
}

// printUnknown writes, with --json, the verdict of an audit that could not be made. It returns err.
func (c *cli) printUnknown(err error) error {
	if _, unknown := errors.AsType[unknownError](err); !unknown || !c.asJSON {
		return err
	}
	none := audit.Report{Verdict: audit.Unknown, Problems: []string{err.Error()},
		Sales: []audit.Sale{}}
	return cmp.Or(c.printJSON(none), err)
}

// hasVerdict reports whether an answer contains the result of an audit.
func hasVerdict(text []byte) bool {
	var result struct{ Verdict audit.Verdict }
	return json.Unmarshal(text, &result) == nil && result.Verdict != ""
}

// toUnknown turns a missing answer, or one of a failing system, into an unknownError. A refusal of the request itself
// stays as it is.
func toUnknown(err error) error {
	refused, ok := errors.AsType[opsclient.Error](err)
	if ok && refused.Code != api.CodeUnavailable && refused.Code != api.CodeInternal &&
		refused.Code != api.CodeRateLimited || errors.Is(err, context.Canceled) {
		return err
	}
	return unknownError{err}
}

// auditError returns the error of an audit that found a difference, or nil.
func auditError(result audit.Report) error {
	switch result.Verdict {
	case audit.Clean:
		return nil
	case audit.Different:
		return errors.New("the audit found a difference: " + listSales(result.Of(audit.Different)))
	}
	return unknownError{errors.New("the audit could not look everywhere: " +
		listSales(result.Of(audit.Unknown)))}
}

func listSales(ids []string) string {
	if len(ids) == 0 {
		return "the sales are not known"
	}
	return printable(strings.Join(ids, ", "))
}

// printAudit writes a table with a row for each sale, then each problem, then the verdict.
func printAudit(w io.Writer, result audit.Report) error {
	rows := [][]string{{"SALE", "TOTAL", "AVAILABLE", "LIVE", "LINE STOCK", "IN FLIGHT", "DIFFERENCE", "VERDICT"}}
	var problems strings.Builder
	for _, problem := range result.Problems {
		fmt.Fprintln(&problems, printable(problem))
	}
	for _, s := range result.Sales {
		row := []string{printable(s.Sale)}
		for _, n := range []int64{s.Total, s.Available, s.Live, s.LineStock, s.InFlight, s.Difference} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, append(row, printable(string(s.Verdict))))
		for _, problem := range s.Problems {
			fmt.Fprintf(&problems, "%s: %s\n", printable(s.Sale), printable(problem))
		}
	}
	verdict := map[audit.Verdict]string{
		audit.Clean: "clean", audit.Different: "DIFFERENT",
	}[result.Verdict]
	verdict = cmp.Or(verdict, "UNKNOWN: not everything could be looked at")
	_, err := io.WriteString(w, table(rows...)+problems.String()+verdict+"\n")
	return err
}

func newRebuildCommand(c *cli) *cobra.Command {
	var sale string
	var body api.WithReason
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Rebuild a sale's line from the ledger",
		Long: "rebuild brings a line back into agreement with the ledger, counting the tickets that are left in " +
			"it. Sluice does this\nby itself when Redis lost or rolled back a line; meanwhile the sale answers " +
			"that it is unavailable.",
		Example: "  sluice rebuild --sale summer --reason 'after the restore'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
				if _, err := o.Call(ctx, http.MethodPost, "/sales/"+sale+"/rebuild", body); err != nil {
					return wrapSaleError(sale, err)
				}
				return c.auditOnce(ctx, o, sale)
			})
		},
	}
	saleFlag(cmd, &sale)
	reasonFlag(cmd, &body.Reason)
	return c.opsCommand(cmd)
}

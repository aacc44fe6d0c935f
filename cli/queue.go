package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// lineView is what the commands show of a line.
type lineView struct {
	Sale          string  `json:"sale"`
	Depth         int64   `json:"depth"`
	Capacity      int64   `json:"capacity"`
	OldestSeconds float64 `json:"oldest_age_seconds"`
	Stock         int64   `json:"stock"`
	Suspects      int64   `json:"suspects"`
	LeasedBatches int64   `json:"leased_batches"`
	Retrying      int64   `json:"retrying"`
	Dead          int64   `json:"dead"`
	Admitted      int64   `json:"admitted"`
	Served        int64   `json:"served"`
	Rebuilding    bool    `json:"rebuilding"`
	Rates         struct {
		Admitted float64 `json:"admitted_per_second"`
		Drained  float64 `json:"drained_per_second"`
		Refused  float64 `json:"refused_per_second"`
	} `json:"rates"`
	Unread string `json:"unread"`
}

func newQueueCommand(c *cli) *cobra.Command {
	return newGroup("queue", "Look at the lines: depth, age, rates and what workers hold",
		"  sluice queue list\n  sluice queue leases --sale summer",
		newQueueListCommand(c), newQueueShowCommand(c), newQueueLeasesCommand(c))
}

func newQueueListCommand(c *cli) *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the lines with their depth, age and rates, by sale",
		Example: "  sluice queue list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.list(cmd, listing{path: "/queue", member: "lines"}, page, queueTable)
		},
	}
	page.add(cmd, "lines", mostShown)
	return c.opsCommand(cmd)
}

func newQueueShowCommand(c *cli) *cobra.Command {
	var sale string
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show one line",
		Example: "  sluice queue show --sale summer",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			return aboutSale(sale, c.fetch(cmd, "/sales/"+sale+"/queue", queueCard))
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	needFlags(cmd, "sale")
	return c.opsCommand(cmd)
}

func newQueueLeasesCommand(c *cli) *cobra.Command {
	var sale string
	var limit, skip int
	cmd := &cobra.Command{
		Use:     "leases",
		Short:   "List the batches that workers hold, those first whose lease ends first",
		Example: "  sluice queue leases --sale summer --limit 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSaleID(sale); err != nil {
				return err
			}
			if limit < 1 || limit > 100 {
				return badUsage("--limit must be between 1 and 100, got %d", limit)
			}
			if skip < 0 {
				return badUsage("--skip must be 0 or more, got %d", skip)
			}
			return aboutSale(sale, c.fetch(cmd, fmt.Sprintf("/sales/%s/leases?limit=%d&skip=%d", sale, limit, skip), leaseTable))
		},
	}
	cmd.Flags().StringVar(&sale, "sale", "", "the sale (required)")
	cmd.Flags().IntVar(&limit, "limit", 20, "batches to list, at most 100")
	cmd.Flags().IntVar(&skip, "skip", 0, "batches to leave out at the beginning")
	needFlags(cmd, "sale")
	return c.opsCommand(cmd)
}

func queueTable(text []byte) (string, error) {
	var list struct {
		Lines []lineView `json:"lines"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"SALE", "IN LINE", "OLDEST", "ADMITTED/S", "DRAINED/S", "REFUSED/S", "LEASED", "RETRYING", "SUSPECT", "DEAD", "STOCK"}}
	unread := ""
	for _, l := range list.Lines {
		if l.Unread != "" {
			unread += fmt.Sprintf("the line of %s cannot be read: %s\n", printable(l.Sale), printable(l.Unread))
			continue
		}
		rows = append(rows, []string{printable(l.Sale), number(l.Depth) + "/" + number(l.Capacity), seconds(l.OldestSeconds), perSecond(l.Rates.Admitted),
			perSecond(l.Rates.Drained), perSecond(l.Rates.Refused), number(l.LeasedBatches), number(l.Retrying), number(l.Suspects), number(l.Dead), number(l.Stock)})
	}
	return table(rows...) + unread, nil
}

func queueCard(text []byte) (string, error) {
	var l lineView
	if err := json.Unmarshal(text, &l); err != nil {
		return "", err
	}
	rows := [][]string{{"sale", printable(l.Sale)}, {"in line", number(l.Depth) + "/" + number(l.Capacity)}, {"oldest in line", seconds(l.OldestSeconds)},
		{"admitted per second", perSecond(l.Rates.Admitted)}, {"drained per second", perSecond(l.Rates.Drained)}, {"refused per second", perSecond(l.Rates.Refused)},
		{"leased batches", number(l.LeasedBatches)}, {"waiting to retry", number(l.Retrying)}, {"tried one at a time", number(l.Suspects)},
		{"dead letters", number(l.Dead)}, {"remaining to reserve", number(l.Stock)}, {"ever admitted", number(l.Admitted)}, {"ever drained", number(l.Served)}}
	if l.Rebuilding {
		rows = append(rows, []string{"line", "being rebuilt"})
	}
	return table(rows...), nil
}

func leaseTable(text []byte) (string, error) {
	var list struct {
		Leases []struct {
			BatchID    string  `json:"batch_id"`
			Instance   string  `json:"instance"`
			Tickets    int64   `json:"tickets"`
			Deadline   string  `json:"deadline"`
			AgeSeconds float64 `json:"age_seconds"`
			Overdue    bool    `json:"overdue"`
		} `json:"leases"`
		Total int64 `json:"total"`
		Next  int64 `json:"next"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"BATCH", "INSTANCE", "TICKETS", "AGE", "DEADLINE"}}
	for _, l := range list.Leases {
		deadline := l.Deadline
		if l.Overdue {
			deadline += " (overdue)"
		}
		rows = append(rows, []string{printable(l.BatchID), dash(printable(l.Instance)), number(l.Tickets), seconds(l.AgeSeconds), deadline})
	}
	more := ""
	if list.Next > 0 {
		more = fmt.Sprintf("%d in all, more with --skip %d\n", list.Total, list.Next)
	}
	return table(rows...) + more, nil
}

func seconds(n float64) string { return fmt.Sprintf("%.1fs", n) }

func perSecond(n float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0") }

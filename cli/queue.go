package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newQueueCommand(c *cli) *cobra.Command {
	cmd := newGroup("queue", "Look at the lines: depth, age, rates and what workers hold",
		"  sluice queue list\n  sluice queue leases --sale summer",
		queueList().command(c), newQueueShowCommand(c), newQueueLeasesCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func queueList() listCommand[api.Line] {
	return listCommand[api.Line]{
		use: "list", short: "List the lines with their depth, age and rates, by sale",
		example: "  sluice queue list",
		member:  "lines", paging: opsclient.ByCursor(), what: "lines", limit: maxShown,
		request: get("/queue"),
		header: []string{"SALE", "IN LINE", "OLDEST", "ADMITTED/S", "DRAINED/S", "REFUSED/S", "LEASED", "RETRYING",
			"SUSPECT", "DEAD", "STOCK"},
		row: func(l api.Line) []string {
			if l.Unread != "" {
				return nil
			}
			return []string{printable(l.Sale), depth(&l), seconds(l.OldestAgeSeconds), perSecond(l.Rates.Admitted),
				perSecond(l.Rates.Drained), refusedRate(l.Rates), number(l.LeasedBatches), number(l.Retrying),
				number(l.Isolated), number(l.Dead), number(l.Stock)}
		},
		note: func(lines []api.Line) (unread string) {
			for _, l := range lines {
				if l.Unread != "" {
					unread += fmt.Sprintf("the line of %s cannot be read: %s\n", printable(l.Sale), printable(l.Unread))
				}
			}
			return unread
		},
	}
}

// refusedRate formats how many orders are refused in a second.
func refusedRate(r api.LineRates) string {
	if r.Refused == nil {
		return perSecond(0)
	}
	return perSecond(*r.Refused)
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
			return wrapSaleError(sale, c.fetch(cmd.Context(), "/sales/"+sale+"/queue", newLayout(queueCard)))
		},
	}
	saleFlag(cmd, &sale)
	c.jsonFlag(cmd)
	return cmd
}

func queueCard(l api.Line) string {
	rows := [][]string{{"sale", printable(l.Sale)}, {"in line", depth(&l)},
		{"oldest in line", seconds(l.OldestAgeSeconds)},
		{"admitted per second", perSecond(l.Rates.Admitted)}, {"drained per second", perSecond(l.Rates.Drained)},
		{"refused per second", refusedRate(l.Rates)}, {"leased batches", number(l.LeasedBatches)},
		{"waiting to retry", number(l.Retrying)}, {"tried one at a time", number(l.Isolated)},
		{"dead letters", number(l.Dead)}, {"remaining to reserve", number(l.Stock)},
		{"ever admitted", number(l.Admitted)}, {"ever drained", number(l.Served)}}
	if l.Rebuilding {
		rows = append(rows, []string{"line", "being rebuilt"})
	}
	return table(rows...)
}

func newQueueLeasesCommand(c *cli) *cobra.Command {
	var sale string
	l := leaseList()
	l.flags = func(cmd *cobra.Command) { saleFlag(cmd, &sale) }
	l.request = func([]string) (listRequest, error) {
		return listRequest{path: "/sales/" + sale + "/leases", about: "sale " + sale}, checkSaleID(sale)
	}
	return l.command(c)
}

func leaseList() listCommand[api.Lease] {
	return listCommand[api.Lease]{
		use: "leases", short: "List the batches that workers hold, those first whose lease ends first",
		example: "  sluice queue leases --sale summer --limit 100",
		member:  "leases", paging: opsclient.BySkip(), what: "batches", limit: 20,
		header: []string{"BATCH", "INSTANCE", "TICKETS", "AGE", "DEADLINE"},
		row: func(l api.Lease) []string {
			deadline := l.Deadline
			if l.Overdue {
				deadline += " (overdue)"
			}
			return []string{printable(l.BatchID), dash(printable(l.Instance)), number(l.Tickets),
				seconds(l.AgeSeconds), deadline}
		},
	}
}

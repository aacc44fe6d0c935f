package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newOrderCommand(c *cli) *cobra.Command {
	cmd := newGroup("order", "Look orders up",
		"  sluice order list --sale summer\n  sluice order export --sale summer --format csv > orders.csv",
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
			const allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
			if id == "" || len(id) > 64 || strings.Trim(id, allowed) != "" {
				return badUsage("an order's id is letters, digits and '-', at most 64, got %q", id)
			}
			return wrapError("order "+id, c.fetch(cmd.Context(), "/orders/"+id, newLayout(orderCard)))
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func newOrderListCommand(c *cli) *cobra.Command {
	var sale string
	return listCommand[api.AdminOrder]{
		use: "list", short: "List the newest orders of a sale",
		long: "list shows orders that have left the line; sluice sale show tells how many still wait in it, " +
			"and sluice order export has all.",
		example: "  sluice order list --sale summer --limit 50",
		member:  "orders", paging: opsclient.ByCursor(), what: "orders", limit: 20,
		flags: func(cmd *cobra.Command) { saleFlag(cmd, &sale) },
		request: func([]string) (listRequest, error) {
			return listRequest{path: ordersPath(sale), about: "sale " + sale}, checkSaleID(sale)
		},
		header: []string{"ORDER", "USER", "STATUS", "REASON", "QUANTITY", "ADMITTED", "CONFIRMED"},
		row: func(o api.AdminOrder) []string {
			return []string{printable(o.OrderID), printable(o.User), o.Status, dash(printable(o.Reason)),
				strconv.Itoa(o.Quantity), dash(o.AdmittedAt), dash(o.ConfirmedAt)}
		},
	}.command(c)
}

func ordersPath(sale string) string { return "/sales/" + sale + "/orders" }

// orderField is one field of an order as operators read it.
type orderField struct {
	column string // of the CSV; empty: it has none
	line   string // of order show; empty: it has none
	text   func(o api.AdminOrder) string
}

// orderFields returns all fields, in the order of the columns and of the lines.
func orderFields() []orderField {
	return []orderField{
		{"order_id", "order", func(o api.AdminOrder) string { return o.OrderID }},
		{"sale_id", "sale", func(o api.AdminOrder) string { return o.SaleID }},
		{"user", "user", func(o api.AdminOrder) string { return o.User }},
		{"status", "status", func(o api.AdminOrder) string { return o.Status }},
		{"reason", "reason", func(o api.AdminOrder) string { return o.Reason }},
		{"quantity", "quantity", func(o api.AdminOrder) string { return strconv.Itoa(o.Quantity) }},
		{"price_cents", "", func(o api.AdminOrder) string { return number(o.PriceCents) }},
		{"currency", "", func(o api.AdminOrder) string { return o.Currency }},
		{"", "price", func(o api.AdminOrder) string { return amount(o.PriceCents, o.Currency) }},
		{"admitted_at", "admitted", func(o api.AdminOrder) string { return o.AdmittedAt }},
		{"confirmed_at", "confirmed", func(o api.AdminOrder) string { return o.ConfirmedAt }},
		{"ended_at", "ended", func(o api.AdminOrder) string { return o.EndedAt }},
	}
}

func orderCard(o api.AdminOrder) string {
	var rows [][]string
	for _, f := range orderFields() {
		if f.line != "" {
			rows = append(rows, []string{f.line, dash(printable(f.text(o)))})
		}
	}
	if o.Position != nil {
		rows = append(rows, []string{"position", number(*o.Position)})
	}
	return table(rows...)
}

func newOrderTimelineCommand(c *cli) *cobra.Command {
	var user, cursor string
	var limit int
	cmd := &cobra.Command{
		Use:   "timeline [ORDER]",
		Short: "Show what happened to an order, or to a user's newest orders, step by step",
		Long: "timeline shows each step with its time, duration, instance and reason: the admission, the claim, " +
			"attempts that did not\nsucceed at once, the end, payments, what operators did, and each notification.",
		Example: "  sluice order timeline 0198c0de-7a1b-7c3d-8e9f-0123456789ab\n  sluice order timeline --user ann",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (user != "") {
				return badUsage("timeline wants an order's id or --user")
			}
			if limit < 1 || limit > 20 {
				return badUsage("--limit must be between 1 and 20, got %d", limit)
			}
			if user == "" {
				return c.fetch(cmd.Context(), "/orders/"+url.PathEscape(args[0])+"/timeline", newLayout(timelineCard))
			}
			query := url.Values{"user": {user}, "limit": {strconv.Itoa(limit)}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			return c.fetch(cmd.Context(), "/timelines?"+query.Encode(), newLayout(timelineCards))
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the `user` whose newest orders to show")
	cmd.Flags().IntVar(&limit, "limit", 5, "orders of the user to show, at most 20")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on with the user's orders where the page before ended")
	c.jsonFlag(cmd)
	return cmd
}

func timelineCards(list api.TimelineList) string {
	cards := make([]string, len(list.Timelines))
	for i, t := range list.Timelines {
		cards[i] = timelineCard(t)
	}
	if list.NextCursor != "" {
		cards = append(cards, "more with --cursor "+printable(list.NextCursor)+"\n")
	}
	return strings.Join(cards, "\n")
}

func timelineCard(t api.Timeline) string {
	rows := [][]string{{"AT", "STEP", "TOOK", "ATTEMPT", "INSTANCE", "WHO", "REASON"}}
	for _, s := range t.Steps {
		took, attempt := "", ""
		if s.DurationMS > 0 {
			took = time.Duration(s.DurationMS * float64(time.Millisecond)).String()
		}
		if s.Attempt > 0 {
			attempt = strconv.Itoa(s.Attempt)
		}
		rows = append(rows, []string{printable(s.At), printable(s.Step), dash(took), dash(attempt),
			dash(printable(s.Instance)), dash(printable(s.Actor)), dash(printable(s.Reason))})
	}
	o := t.Order
	return fmt.Sprintf("order %s of %s in %s: %s\n",
		printable(o.OrderID), printable(o.User), printable(o.SaleID), o.Status) + table(rows...)
}

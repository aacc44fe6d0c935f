package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"sluice/queue"

	"github.com/spf13/cobra"
)

// saleView is what the commands show of a sale.
type saleView struct {
	ID           string    `json:"id"`
	Title        string    `json:"title"`
	SKU          string    `json:"sku"`
	PriceCents   int64     `json:"price_cents"`
	Currency     string    `json:"currency"`
	StockTotal   int64     `json:"stock_total"`
	Available    int64     `json:"available"`
	Remaining    int64     `json:"remaining"`
	PerUserLimit int       `json:"per_user_limit"`
	Cap          int       `json:"cap"`
	State        string    `json:"state"`
	AdminState   string    `json:"admin_state"`
	StartsAt     string    `json:"starts_at"`
	EndsAt       string    `json:"ends_at"`
	Line         *lineView `json:"line"`
	InLine       *bool     `json:"in_line"` // of a change just made
}

func newSaleCommand(c *cli) *cobra.Command {
	cmd := newGroup("sale", "Create, watch and change sales", "  sluice sale list\n  sluice sale pause summer --reason 'wrong price'",
		newSaleCreateCommand(c), newSaleListCommand(c), newSaleShowCommand(c),
		newSaleStateCommand(c, "open", "Open a sale: it sells within its window"),
		newSaleStateCommand(c, "pause", "Pause a sale: new orders are refused, accepted ones go on"),
		newSaleStateCommand(c, "close", "Close a sale for good"),
		newSaleSetCommand(c))
	c.opsFlag(cmd)
	for _, sub := range cmd.Commands() {
		c.jsonFlag(sub)
	}
	return cmd
}

func newSaleListCommand(c *cli) *cobra.Command {
	var page pageFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List sales, newest first",
		Example: "  sluice sale list --ops http://10.0.0.7:8081\n  sluice sale list --limit 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.list(cmd, listing{path: "/sales", member: "sales"}, page, saleTable)
		},
	}
	page.add(cmd, "sales", mostShown)
	return cmd
}

func newSaleShowCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "show SALE",
		Short:   "Show one sale and its line",
		Example: "  sluice sale show summer",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSale(cmd, args[0], func(ctx context.Context, o *opsClient) ([]byte, error) {
				return o.get(ctx, "/sales/"+args[0])
			})
		},
	}
}

func newSaleStateCommand(c *cli, verb, short string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     verb + " SALE",
		Short:   short,
		Example: "  sluice sale " + verb + " summer --reason 'as planned'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withSale(cmd, args[0], func(ctx context.Context, o *opsClient) ([]byte, error) {
				return o.call(ctx, http.MethodPost, "/sales/"+args[0]+"/"+verb, map[string]string{"reason": reason})
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return cmd
}

// withSale runs what is answered with a sale, and shows that sale.
func (c *cli) withSale(cmd *cobra.Command, id string, do func(context.Context, *opsClient) ([]byte, error)) error {
	if err := checkSaleID(id); err != nil {
		return err
	}
	return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
		text, err := do(ctx, o)
		if err != nil {
			return aboutSale(id, err)
		}
		if c.asJSON {
			return c.printRaw(text)
		}
		var sale saleView
		if err := json.Unmarshal(text, &sale); err != nil {
			return o.at(fmt.Errorf("sale %s is not readable: %w", id, err))
		}
		return c.print(saleCard(sale))
	})
}

func checkSaleID(id string) error {
	if !queue.ValidSaleID(id) {
		return badUsage("a sale's id is 1 to 64 letters, digits, '-' or '_', starting with a letter or digit, got %q", id)
	}
	return nil
}

// aboutSale says which sale an error is about.
func aboutSale(id string, err error) error {
	if err == nil || id == "" {
		return err
	}
	return fmt.Errorf("sale %s: %w", id, err)
}

func saleTable(text []byte) (string, error) {
	var list struct {
		Sales []saleView `json:"sales"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"SALE", "STATE", "REMAINING", "STOCK", "IN LINE", "LIMIT", "STARTS", "ENDS", "TITLE"}}
	for _, s := range list.Sales {
		rows = append(rows, []string{printable(s.ID), s.State, number(s.Remaining), number(s.StockTotal), s.inLine(), strconv.Itoa(s.PerUserLimit),
			s.StartsAt, s.EndsAt, printable(s.Title)})
	}
	return table(rows...), nil
}

func saleCard(s saleView) string {
	state := s.State
	if s.AdminState != "" && s.AdminState != s.State {
		state += " (set to " + s.AdminState + ")"
	}
	rows := [][]string{{"sale", printable(s.ID)}, {"title", printable(s.Title)}, {"sku", printable(s.SKU)},
		{"price", fmt.Sprintf("%d.%02d %s", s.PriceCents/100, s.PriceCents%100, s.Currency)}, {"state", state},
		{"starts", s.StartsAt}, {"ends", s.EndsAt}, {"limit per user", strconv.Itoa(s.PerUserLimit)}, {"stock", number(s.StockTotal)},
		{"available in ledger", number(s.Available)}, {"remaining to reserve", number(s.Remaining)}, {"in line", s.inLine()}}
	if line := s.Line; line != nil {
		rows = append(rows, []string{"oldest in line", fmt.Sprintf("%.1fs", line.OldestSeconds)}, []string{"admitted per second", perSecond(line.Rates.Admitted)},
			[]string{"drained per second", perSecond(line.Rates.Drained)}, []string{"leased batches", number(line.LeasedBatches)},
			[]string{"waiting to retry", number(line.Retrying)}, []string{"dead letters", number(line.Dead)})
		if line.Rebuilding {
			rows = append(rows, []string{"line", "being rebuilt"})
		}
	}
	if s.InLine != nil && !*s.InLine {
		rows = append(rows, []string{"change", "made in the ledger; the line follows by itself"})
	}
	return table(rows...)
}

// inLine is how many tickets wait, of how many may.
func (s saleView) inLine() string {
	if s.Line == nil {
		return "-"
	}
	if s.Line.Unread != "" {
		return "unread"
	}
	return number(s.Line.Depth) + "/" + number(s.Line.Capacity)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func newSaleCreateCommand(c *cli) *cobra.Command {
	var sale api.NewSale
	var starts, ends string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a sale with its stock",
		Example: "  sluice sale create --id summer --title 'Phone X' --sku PHONE-X --stock 500 --price-cents 9900 " +
			"--open\n  sluice sale create --id night --title 'Phone X' --sku PHONE-X --stock 500 --price-cents 9900 " +
			"--starts 2027-06-01T20:00:00+08:00 --ends +2h",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, now := sale, c.now()
			start, err := parseTime("--starts", starts, now)
			if err != nil {
				return err
			}
			if starts != "now" { // the server's clock decides what now is
				body.StartsAt = start
			}
			end, err := parseTime("--ends", ends, start)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("ends") {
				body.EndsAt = end
			}
			return c.withSale(cmd, body.ID, func(ctx context.Context, o *opsclient.Client) ([]byte, error) {
				return o.Call(ctx, http.MethodPost, "/sales", body)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&sale.ID, "id", "", "the sale's id: letters, digits, '-' and '_' (required)")
	f.StringVar(&sale.Title, "title", "", "what shoppers read (required)")
	f.StringVar(&sale.SKU, "sku", "", "what is sold (required)")
	f.Int64Var(&sale.Stock, "stock", 0, "units to sell (required)")
	f.Int64Var(&sale.PriceCents, "price-cents", 0, "price of a unit in cents (required)")
	f.StringVar(&sale.Currency, "currency", "CNY", "currency of the price")
	f.IntVar(&sale.PerUserLimit, "limit", 1, "units one user may hold")
	f.IntVar(&sale.Cap, "cap", 0, "tickets the line may hold (default: queue.cap of the configuration)")
	f.StringVar(&starts, "starts", "now", "`time` it starts: now, RFC 3339, or a duration from now such as +5m")
	f.StringVar(&ends, "ends", "+24h", "`time` it ends: RFC 3339, or a duration from its start such as +1h")
	f.BoolVar(&sale.Open, "open", false, "open it at once, instead of leaving a draft")
	reasonFlag(cmd, &sale.Reason)
	needFlags(cmd, "id", "title", "sku", "stock", "price-cents")
	c.jsonFlag(cmd)
	return cmd
}

// saleEdit is the change of a sale's settings; nil leaves a value as it is.
type saleEdit struct {
	Cap          *int       `json:"cap,omitempty"`
	PerUserLimit *int       `json:"per_user_limit,omitempty"`
	StartsAt     *time.Time `json:"starts_at,omitempty"`
	EndsAt       *time.Time `json:"ends_at,omitempty"`
	Reason       string     `json:"reason,omitempty"`
}

// saleSet is one call of sale set.
type saleSet struct {
	lineCap, limit       int
	stock                int64
	starts, ends, reason string
	key                  string
}

func newSaleSetCommand(c *cli) *cobra.Command {
	var s saleSet
	cmd := &cobra.Command{
		Use:   "set SALE",
		Short: "Change a sale's cap, limit, window or stock",
		Long: "set changes the settings named, all together, and then the stock. The limit per user can only be " +
			"raised.\nA stock change is signed and needs a reason. When its answer is lost it is asked for again, " +
			"and made once; should no answer\ncome at all, the message names a key: with --key a repetition " +
			"cannot change the stock twice.",
		Example: "  sluice sale set summer --cap 20000 --ends +3h\n" +
			"  sluice sale set summer --stock-add -20 --reason 'damaged in the warehouse'",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.setSale(cmd, args[0], s) },
	}
	f := cmd.Flags()
	f.IntVar(&s.lineCap, "cap", 0, "tickets the line may hold, 0 for queue.cap of the configuration")
	f.IntVar(&s.limit, "limit", 0, "units one user may hold")
	f.StringVar(&s.starts, "starts", "", "`time` it starts: now, RFC 3339, or a duration from now such as +5m")
	f.StringVar(&s.ends, "ends", "", "`time` it ends: now, RFC 3339, or a duration from its start such as +3h")
	f.Int64Var(&s.stock, "stock-add", 0, "units to add, or to remove when negative")
	f.StringVar(&s.reason, "reason", "", "why, for the admin log; required by --stock-add")
	f.StringVar(&s.key, "key", "", "`name` of a stock change, to repeat it without making it twice")
	cmd.MarkFlagsOneRequired("cap", "limit", "starts", "ends", "stock-add")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) setSale(cmd *cobra.Command, id string, s saleSet) error {
	changed := cmd.Flags().Changed
	restock := changed("stock-add")
	switch {
	case restock && s.stock == 0:
		return badUsage("--stock-add must not be 0")
	case restock && strings.TrimSpace(s.reason) == "":
		return badUsage("--stock-add needs --reason")
	case changed("key") && !restock:
		return badUsage("--key names a change of stock: it needs --stock-add")
	}
	edit := saleEdit{Reason: s.reason}
	if changed("cap") {
		edit.Cap = &s.lineCap
	}
	if changed("limit") {
		edit.PerUserLimit = &s.limit
	}
	window, err := s.window(changed, c.now())
	if err != nil {
		return err
	}
	edited := edit.Cap != nil || edit.PerUserLimit != nil || changed("starts") || changed("ends")
	return c.withSale(cmd, id, func(ctx context.Context, o *opsclient.Client) (text []byte, err error) {
		if edited {
			if edit.StartsAt, edit.EndsAt, err = window(ctx, o, id); err != nil {
				return nil, err
			}
			if text, err = o.Call(ctx, http.MethodPatch, "/sales/"+id, edit); err != nil {
				return nil, err
			}
		}
		if !restock {
			return text, nil
		}
		text, err = s.restock(ctx, o, id)
		switch {
		case err != nil && edited && errors.Is(err, opsclient.ErrMaybeDone):
			err = fmt.Errorf("the settings are changed: %w", err)
		case err != nil && edited:
			err = fmt.Errorf("the settings are changed, the stock is not: %w", err)
		}
		return text, err
	})
}

const (
	restockTries = 3
	restockPause = 500 * time.Millisecond
)

// restock changes the stock. Without an answer it repeats the request with the same Idempotency-Key.
func (s saleSet) restock(ctx context.Context, o *opsclient.Client, id string) (text []byte, err error) {
	key := cmp.Or(s.key, uuid.NewString())
	request := opsclient.Request{Method: http.MethodPost, Path: "/sales/" + id + "/stock", Key: strconv.Quote(key),
		Body: api.StockChange{Delta: s.stock, WithReason: api.WithReason{Reason: s.reason}}}
	open := false
	for try := range restockTries {
		if try > 0 {
			select {
			case <-time.After(restockPause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		text, err = o.Send(ctx, request)
		refused, answered := errors.AsType[opsclient.Error](err)
		if err == nil || answered && refused.Code != api.CodeUnavailable {
			return text, err
		}
		open = open || answered || errors.Is(err, opsclient.ErrMaybeDone)
	}
	if open {
		err = fmt.Errorf("whether the stock is changed is not known, "+
			"repeat the command with --key %s and it is changed once (%w): %w", key, opsclient.ErrMaybeDone, err)
	}
	return nil, err
}

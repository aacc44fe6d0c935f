package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
)

// notificationView is a notification as operators see it.
type notificationView struct {
	OrderID   string `json:"order_id"`
	Event     string `json:"event"`
	Channel   string `json:"channel"`
	State     string `json:"state"`
	Attempts  int    `json:"attempts"`
	CreatedAt string `json:"created_at"`
	LastError string `json:"last_error"`
}

func newNotifyCommand(c *cli) *cobra.Command {
	cmd := newGroup("notify", "Look after notifications that were given up on",
		"  sluice notify list --channel email\n  sluice notify retry --channel email --all --reason 'the mail server is well again'",
		newNotifyListCommand(c), newNotifyRetryCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newNotifyListCommand(c *cli) *cobra.Command {
	var state, channel, cursor string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List notifications of one state, newest first",
		Example: "  sluice notify list --state dead --channel email --limit 100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100 {
				return badUsage("--limit must be between 1 and 100, got %d", limit)
			}
			if states := []string{"pending", "delivered", "dead", "overtaken"}; !slices.Contains(states, state) {
				return badUsage("--state must be pending, delivered, dead or overtaken, got %q", state)
			}
			query := url.Values{"state": {state}, "limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"channel": channel, "cursor": cursor} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, "/notifications?"+query.Encode())
				if err != nil {
					return fmt.Errorf("list notifications: %w", err)
				}
				return c.printNotifications(o, text)
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "dead", "pending, delivered, dead or overtaken")
	cmd.Flags().StringVar(&channel, "channel", "", "one channel: stream, email, sms or webhook (default: all)")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on where the page before ended")
	cmd.Flags().IntVar(&limit, "limit", 20, "notifications to list, at most 100")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) printNotifications(o *opsClient, text []byte) error {
	if c.asJSON {
		return c.printRaw(text)
	}
	var list struct {
		Notifications []notificationView `json:"notifications"`
		NextCursor    string             `json:"next_cursor"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return o.at(fmt.Errorf("the list of notifications is not readable: %w", err))
	}
	rows := [][]string{{"CHANNEL", "ORDER", "EVENT", "STATE", "ATTEMPTS", "CREATED", "LAST ERROR"}}
	for _, n := range list.Notifications {
		rows = append(rows, []string{printable(n.Channel), printable(n.OrderID), printable(n.Event), n.State, strconv.Itoa(n.Attempts), n.CreatedAt, printable(n.LastError)})
	}
	more := ""
	if list.NextCursor != "" {
		more = "more with --cursor " + printable(list.NextCursor) + "\n"
	}
	return c.print(table(rows...) + more)
}

func newNotifyRetryCommand(c *cli) *cobra.Command {
	var channel, order, event, reason string
	var all bool
	cmd := &cobra.Command{
		Use:     "retry",
		Short:   "Try dead notifications again",
		Long:    "Try one dead notification again, named by --order and --event, or all of a channel, at most 10,000 at a time.",
		Example: "  sluice notify retry --channel email --order 0198c0de-7a1b-7c3d-8e9f-0123456789ab --event order.paid --reason 'mailbox is back'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if one := order != "" && event != ""; all == one || all && order+event != "" {
				return badUsage("give either --all or both --order and --event")
			}
			body := map[string]any{"channel": channel, "order_id": order, "event": event, "all": all, "reason": reason}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.call(ctx, http.MethodPost, "/notifications/retry", body)
				if err != nil {
					return fmt.Errorf("retry notifications of channel %s: %w", channel, err)
				}
				if c.asJSON {
					return c.printRaw(text)
				}
				var done struct {
					Retried int64 `json:"retried"`
					More    bool  `json:"more"`
				}
				if err := json.Unmarshal(text, &done); err != nil {
					return o.at(fmt.Errorf("the answer is not readable: %w", err))
				}
				more := ""
				if done.More {
					more = "; more are dead: repeat the command"
				}
				return c.print(fmt.Sprintf("%d due again%s\n", done.Retried, more))
			})
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "the channel: stream, email, sms or webhook (required)")
	cmd.Flags().StringVar(&order, "order", "", "the order of one notification")
	cmd.Flags().StringVar(&event, "event", "", "its event, such as order.paid")
	cmd.Flags().BoolVar(&all, "all", false, "all dead notifications of the channel")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log (required)")
	needFlags(cmd, "channel", "reason")
	c.jsonFlag(cmd)
	return cmd
}

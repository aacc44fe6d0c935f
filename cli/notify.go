package cli

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newNotifyCommand(c *cli) *cobra.Command {
	cmd := newGroup("notify", "Look after notifications that were given up on",
		"  sluice notify list --channel email\n"+
			"  sluice notify retry --channel email --all --reason 'the mail server is well again'",
		newNotifyListCommand(c), newNotifyRetryCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newNotifyListCommand(c *cli) *cobra.Command {
	var state, channel string
	return listCommand[api.Notification]{
		use: "list", short: "List notifications of one state, newest first",
		example: "  sluice notify list --state dead --channel email --limit 100",
		member:  "notifications", paging: opsclient.ByCursor(), what: "notifications", limit: 20,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&state, "state", "dead", "pending, delivered, dead or overtaken")
			cmd.Flags().StringVar(&channel, "channel", "", "one channel: stream, email, sms or webhook (default: all)")
		},
		request: func([]string) (listRequest, error) {
			if states := []string{"pending", "delivered", "dead", "overtaken"}; !slices.Contains(states, state) {
				return listRequest{}, badUsage("--state must be pending, delivered, dead or overtaken, got %q", state)
			}
			query := map[string]string{"state": state, "channel": channel}
			return listRequest{path: "/notifications", query: query, about: "list notifications"}, nil
		},
		header: []string{"CHANNEL", "ORDER", "EVENT", "STATE", "ATTEMPTS", "CREATED", "LAST ERROR"},
		row: func(n api.Notification) []string {
			return []string{printable(n.Channel), printable(n.OrderID), printable(n.Event), n.State,
				strconv.Itoa(n.Attempts), n.CreatedAt, printable(n.LastError)}
		},
	}.command(c)
}

func newNotifyRetryCommand(c *cli) *cobra.Command {
	var retry api.NotificationRetry
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Try dead notifications again",
		Long: "Try one dead notification again, named by --order and --event, or all of a channel, " +
			"at most 10,000 at a time.",
		Example: "  sluice notify retry --channel email --order 0198c0de-7a1b-7c3d-8e9f-0123456789ab " +
			"--event order.paid --reason 'mailbox is back'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			one := retry.OrderID != "" && retry.Event != ""
			if retry.All == one || retry.All && retry.OrderID+retry.Event != "" {
				return badUsage("give either --all or both --order and --event")
			}
			request := opsclient.Request{Method: http.MethodPost, Path: "/notifications/retry", Body: retry}
			err := c.call(cmd.Context(), request, newLayout(retriedLine))
			return wrapError("retry notifications of channel "+retry.Channel, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&retry.Channel, "channel", "", "the channel: stream, email, sms or webhook (required)")
	f.StringVar(&retry.OrderID, "order", "", "the order of one notification")
	f.StringVar(&retry.Event, "event", "", "its event, such as order.paid")
	f.BoolVar(&retry.All, "all", false, "all dead notifications of the channel")
	f.StringVar(&retry.Reason, "reason", "", "why, for the admin log (required)")
	needFlags(cmd, "channel", "reason")
	c.jsonFlag(cmd)
	return cmd
}

func retriedLine(done api.Retried) string {
	more := ""
	if done.More {
		more = "; more are dead: repeat the command"
	}
	return fmt.Sprintf("%d due again%s\n", done.Retried, more)
}

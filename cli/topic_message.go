package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newTopicMessageCommand(c *cli) *cobra.Command {
	return newGroup("message", "Add, look up and cancel single messages of a topic",
		"  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}'\n"+
			"  sluice topic message show coupons coupon-17",
		newMessageAddCommand(c), newMessageShowCommand(c), newMessageCancelCommand(c))
}

func messagePath(topic, id string) string {
	return "/topics/" + topic + "/messages/" + url.PathEscape(id)
}

// aboutMessage says which message an error is about.
func aboutMessage(topic, id string, err error) error {
	return about(fmt.Sprintf("message %s of topic %s", id, topic), err)
}

func newMessageAddCommand(c *cli) *cobra.Command {
	var delay time.Duration
	var body, reason string
	cmd := &cobra.Command{
		Use:   "add TOPIC ID",
		Short: "Add one message; adding it again changes nothing",
		Example: "  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}' --reason 'its " +
			"shopper asked'",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			if !json.Valid([]byte(body)) {
				return badUsage("--body must be JSON, got %q", body)
			}
			message := map[string]any{"id": args[1], "body": json.RawMessage(body)}
			if cmd.Flags().Changed("delay") {
				message["delay_ms"] = delay.Milliseconds()
			}
			request := opsclient.Request{Method: http.MethodPost, Path: "/topics/" + args[0] + "/messages",
				Body: map[string]any{"messages": []any{message}, "reason": reason}}
			return aboutMessage(args[0], args[1], c.call(cmd.Context(), request, layOut(addedLines)))
		},
	}
	cmd.Flags().DurationVar(&delay, "delay", 0, "how long it waits (default: the topic's own)")
	reasonFlag(cmd, &reason)
	cmd.Flags().StringVar(&body, "body", "{}", "what is delivered, as JSON")
	c.jsonFlag(cmd)
	return cmd
}

func addedLines(answer api.AddedMessages) string {
	lines := ""
	for _, m := range answer.Messages {
		lines += printable(m.ID) + " due at " + m.DueAt + "\n"
	}
	return lines
}

func newMessageShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show TOPIC ID",
		Short:   "Show the state, attempts and last error of one message",
		Example: "  sluice topic message show coupons coupon-17",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			return aboutMessage(args[0], args[1], c.fetch(cmd.Context(), messagePath(args[0], args[1]),
				layOut(messageCard)))
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func messageCard(m api.Message) string {
	return table([]string{"message", printable(m.ID)}, []string{"state", m.State},
		[]string{"attempts", strconv.Itoa(m.Attempts)}, []string{"last error", dash(printable(m.LastError))},
		[]string{"added", m.AddedAt}, []string{"due", dash(m.DueAt)}, []string{"ended", dash(m.EndedAt)},
		[]string{"body", dash(printable(string(m.Body)))})
}

func newMessageCancelCommand(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "cancel TOPIC ID",
		Short:   "Cancel a message that waits",
		Example: "  sluice topic message cancel --reason 'the coupon was used' coupons coupon-17",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			path := messagePath(args[0], args[1]) + "?reason=" + url.QueryEscape(reason)
			request := opsclient.Request{Method: http.MethodDelete, Path: path}
			return aboutMessage(args[0], args[1], c.call(cmd.Context(), request, nil))
		},
	}
	reasonFlag(cmd, &reason)
	return cmd
}

func newTopicDeadCommand(c *cli) *cobra.Command {
	return newGroup("dead", "Look after messages that could not be delivered",
		"  sluice topic dead list coupons\n  sluice topic dead retry coupons coupon-17",
		newTopicDeadListCommand(c),
		newTopicDeadActionCommand(c, "retry", "Deliver a dead letter again, its attempts forgotten"),
		newTopicDeadActionCommand(c, "drop", "Forget a dead letter"))
}

func newTopicDeadListCommand(c *cli) *cobra.Command {
	return listCommand[api.Message]{
		use: "list TOPIC", short: "List the dead letters of a topic, newest first",
		example: "  sluice topic dead list --limit 100 coupons",
		args:    cobra.ExactArgs(1),
		member:  "dead", paging: opsclient.BySkip(), what: "dead letters", limit: 20,
		request: func(args []string) (listRequest, error) {
			r := listRequest{path: "/topics/" + args[0] + "/dead", about: "topic " + args[0]}
			return r, checkTopic(args[0])
		},
		header: []string{"MESSAGE", "ATTEMPTS", "ADDED", "DIED", "ERROR"},
		row: func(m api.Message) []string {
			return []string{printable(m.ID), strconv.Itoa(m.Attempts), m.AddedAt, m.EndedAt, printable(m.LastError)}
		},
	}.command(c)
}

func newTopicDeadActionCommand(c *cli, action, short string) *cobra.Command {
	var body api.WithReason
	cmd := &cobra.Command{
		Use:     action + " TOPIC MESSAGE",
		Short:   short,
		Example: "  sluice topic dead " + action + " --reason 'checked by hand' coupons coupon-17",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			if args[1] == "" || len(args[1]) > 128 || strings.ContainsAny(args[1], "/?#") {
				return badUsage("a message's id is at most 128 characters without / ? #, got %q", args[1])
			}
			path := "/topics/" + args[0] + "/dead/" + url.PathEscape(args[1]) + "/" + action
			request := opsclient.Request{Method: http.MethodPost, Path: path, Body: body}
			return aboutTopic(args[0], c.call(cmd.Context(), request, nil))
		},
	}
	reasonFlag(cmd, &body.Reason)
	return cmd
}

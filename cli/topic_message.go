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

// messageOf says which message an error is about.
func messageOf(args []string) string { return fmt.Sprintf("message %s of topic %s", args[1], args[0]) }

func newMessageAddCommand(c *cli) *cobra.Command {
	var delay time.Duration
	var body, reason string
	return topicCommand{
		use: "add TOPIC ID", short: "Add one message; adding it again changes nothing",
		example: "  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}' --reason 'its " +
			"shopper asked'",
		request: func(cmd *cobra.Command, args []string) (opsclient.Request, error) {
			if !json.Valid([]byte(body)) {
				return opsclient.Request{}, badUsage("--body must be JSON, got %q", body)
			}
			message := map[string]any{"id": args[1], "body": json.RawMessage(body)}
			if cmd.Flags().Changed("delay") {
				message["delay_ms"] = delay.Milliseconds()
			}
			return opsclient.Request{Method: http.MethodPost, Path: "/topics/" + args[0] + "/messages",
				Body: map[string]any{"messages": []any{message}, "reason": reason}}, nil
		},
		show: layOut(addedLines), about: messageOf,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().DurationVar(&delay, "delay", 0, "how long it waits (default: the topic's own)")
			reasonFlag(cmd, &reason)
			cmd.Flags().StringVar(&body, "body", "{}", "what is delivered, as JSON")
		},
	}.command(c)
}

func addedLines(answer api.AddedMessages) string {
	lines := ""
	for _, m := range answer.Messages {
		lines += printable(m.ID) + " due at " + m.DueAt + "\n"
	}
	return lines
}

func newMessageShowCommand(c *cli) *cobra.Command {
	return topicCommand{
		use: "show TOPIC ID", short: "Show the state, attempts and last error of one message",
		example: "  sluice topic message show coupons coupon-17",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			return opsclient.Request{Method: http.MethodGet, Path: messagePath(args[0], args[1])}, nil
		},
		show: layOut(messageCard), about: messageOf,
	}.command(c)
}

func messageCard(m api.Message) string {
	return table([]string{"message", printable(m.ID)}, []string{"state", m.State},
		[]string{"attempts", strconv.Itoa(m.Attempts)}, []string{"last error", dash(printable(m.LastError))},
		[]string{"added", m.AddedAt}, []string{"due", dash(m.DueAt)}, []string{"ended", dash(m.EndedAt)},
		[]string{"body", dash(printable(string(m.Body)))})
}

func newMessageCancelCommand(c *cli) *cobra.Command {
	var reason string
	return topicCommand{
		use: "cancel TOPIC ID", short: "Cancel a message that waits",
		example: "  sluice topic message cancel --reason 'the coupon was used' coupons coupon-17",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			path := messagePath(args[0], args[1]) + "?reason=" + url.QueryEscape(reason)
			return opsclient.Request{Method: http.MethodDelete, Path: path}, nil
		},
		about: messageOf, flags: withReason(&reason),
	}.command(c)
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
	return topicCommand{
		use: action + " TOPIC MESSAGE", short: short,
		example: "  sluice topic dead " + action + " --reason 'checked by hand' coupons coupon-17",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			if args[1] == "" || len(args[1]) > 128 || strings.ContainsAny(args[1], "/?#") {
				return opsclient.Request{}, badUsage("a message's id is at most 128 characters without / ? #, got %q",
					args[1])
			}
			path := "/topics/" + args[0] + "/dead/" + url.PathEscape(args[1]) + "/" + action
			return opsclient.Request{Method: http.MethodPost, Path: path, Body: body}, nil
		},
		flags: withReason(&body.Reason),
	}.command(c)
}

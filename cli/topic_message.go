package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newTopicMessageCommand(c *cli) *cobra.Command {
	return newGroup("message", "Add, look up, list and cancel messages of a topic",
		"  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}'\n"+
			"  sluice topic message show coupons coupon-17",
		newMessageAddCommand(c), newMessageShowCommand(c), topicMessages().listMessages(c), newMessageCancelCommand(c))
}

func messagePath(topic, id string) string {
	return "/topics/" + topic + "/messages/" + url.PathEscape(id)
}

// messageOf names the message of a command, for errors.
func messageOf(args []string) string { return fmt.Sprintf("message %s of topic %s", args[1], args[0]) }

// messageFlags are a new message on the command line.
type messageFlags struct {
	delay           time.Duration
	at, event, sale string
	body, reason    string
}

func (m *messageFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&m.delay, "delay", 0, "how long it waits (default: the topic's own)")
	f.StringVar(&m.at, "at", "", "when it is due, like 2027-06-01T20:00:00+08:00")
	f.StringVar(&m.event, "event", "", "what it tells of, for subscriptions that take only some events")
	f.StringVar(&m.sale, "sale", "", "the sale it is about, for subscriptions that take only some sales")
	f.StringVar(&m.body, "body", "{}", "what is delivered, as JSON")
	reasonFlag(cmd, &m.reason)
	cmd.MarkFlagsMutuallyExclusive("delay", "at")
}

// call returns the body of the call that adds the message.
func (m *messageFlags) call(cmd *cobra.Command, id string) (map[string]any, error) {
	if !json.Valid([]byte(m.body)) {
		return nil, badUsage("--body must be JSON, got %q", m.body)
	}
	message := map[string]any{"id": id, "body": json.RawMessage(m.body)}
	if cmd.Flags().Changed("delay") {
		message["delay_ms"] = m.delay.Milliseconds()
	}
	if m.at != "" {
		at, err := time.Parse(time.RFC3339, m.at)
		if err != nil {
			return nil, badUsage("--at must be a time like 2027-06-01T20:00:00+08:00, got %q", m.at)
		}
		message["at"] = at
	}
	for name, value := range map[string]string{"event": m.event, "sale": m.sale} {
		if value != "" {
			message[name] = value
		}
	}
	return map[string]any{"messages": []any{message}, "reason": m.reason}, nil
}

func newMessageAddCommand(c *cli) *cobra.Command {
	var flags messageFlags
	return topicCommand{
		use: "add TOPIC ID", short: "Add one message; adding it again changes nothing",
		example: "  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}' --reason 'its " +
			"shopper asked'\n" +
			"  sluice topic message add coupons coupon-18 --at 2027-06-01T20:00:00+08:00",
		request: func(cmd *cobra.Command, args []string) (opsclient.Request, error) {
			body, err := flags.call(cmd, args[1])
			return opsclient.Request{Method: http.MethodPost, Path: "/topics/" + args[0] + "/messages", Body: body}, err
		},
		show: newLayout(addedLines), about: messageOf, flags: flags.define,
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
		show: newLayout(messageCard), about: messageOf,
	}.command(c)
}

func messageCard(m api.Message) string {
	rows := [][]string{{"message", printable(m.ID)}, {"state", m.State},
		{"attempts", strconv.Itoa(m.Attempts)}, {"last error", dash(printable(m.LastError))},
		{"added", m.AddedAt}, {"due", dash(m.DueAt)}, {"ended", dash(m.EndedAt)},
		{"body", dash(printable(string(m.Body)))}}
	for _, one := range m.Deliveries {
		rows = append(rows, []string{"in " + printable(one.Subscription), one.State + ", attempts " +
			strconv.Itoa(one.Attempts) + ", next " + dash(one.DueAt)})
	}
	return table(rows...)
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

package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

func newSubscriptionCommand(c *cli) *cobra.Command {
	cmd := newGroup("subscription", "Manage subscriptions of topics, each with a copy of its messages",
		"  sluice subscription create --topic orders --event order.paid stock\n"+
			"  sluice subscription off orders.default --reason 'the receiver is being moved'",
		newSubscriptionCreateCommand(c), newSubscriptionListCommand(c), newSubscriptionShowCommand(c),
		newSubscriptionSetCommand(c),
		newSubscriptionSwitchCommand(c, "on", "Switch a subscription on: its messages are delivered"),
		newSubscriptionSwitchCommand(c, "off", "Switch a subscription off: its messages wait"),
		newSubscriptionDeleteCommand(c), newPumpCommand(c),
		newGroup("message", "List the messages of a subscription",
			"  sluice subscription message list --state failed stock", subscriptionMessages().listMessages(c)),
		subscriptionMessages().deadCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newSubscriptionListCommand(c *cli) *cobra.Command {
	var topic string
	return listCommand[api.Subscription]{
		use: "list", short: "List all subscriptions by topic, or those of one",
		example: "  sluice subscription list --topic orders",
		member:  "subscriptions",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&topic, "topic", "", "only those of this topic")
		},
		request: func([]string) (listRequest, error) {
			r := listRequest{path: "/subscriptions", query: map[string]string{"topic": topic}}
			if topic != "" {
				r.about = "topic " + topic
				return r, checkTopic(topic)
			}
			return r, nil
		},
		header: []string{"SUBSCRIPTION", "TOPIC", "KIND", "STATE", "PENDING", "FIRING", "RETRYING", "DEAD", "MISSED",
			"URL"},
		row: func(s api.Subscription) []string {
			cells := append([]string{printable(s.Name), printable(s.Topic), s.Kind, receiverState(s)},
				countCells(s.Messages)...)
			return append(cells, number(s.Missed), dash(printable(s.URL)))
		},
	}.command(c)
}

// subscriptionCommand makes a command about one subscription, which it shows. The path continues the subscription's.
func subscriptionCommand(c *cli, cmd topicCommand, path string) *cobra.Command {
	request := cmd.request
	cmd.request = func(command *cobra.Command, args []string) (opsclient.Request, error) {
		r, err := request(command, args)
		r.Path = "/subscriptions/" + args[0] + path
		return r, err
	}
	cmd.check, cmd.show = checkSubscription, newLayout(subscriptionCard)
	cmd.about = func(args []string) string { return "subscription " + args[0] }
	return cmd.command(c)
}

func newSubscriptionShowCommand(c *cli) *cobra.Command {
	return subscriptionCommand(c, topicCommand{
		use: "show SUBSCRIPTION", short: "Show one subscription and how many messages it has",
		example: "  sluice subscription show stock",
		request: func(*cobra.Command, []string) (opsclient.Request, error) {
			return opsclient.Request{Method: http.MethodGet}, nil
		},
	}, "")
}

func newSubscriptionSwitchCommand(c *cli, verb, short string) *cobra.Command {
	var body api.WithReason
	return subscriptionCommand(c, topicCommand{
		use: verb + " SUBSCRIPTION", short: short,
		example: "  sluice subscription " + verb + " --reason 'as agreed' stock",
		request: func(*cobra.Command, []string) (opsclient.Request, error) {
			return opsclient.Request{Method: http.MethodPost, Body: body}, nil
		},
		flags: withReason(&body.Reason),
	}, "/"+verb)
}

func newSubscriptionDeleteCommand(c *cli) *cobra.Command {
	var reason string
	var giveUp bool
	return topicCommand{
		use: "delete SUBSCRIPTION", short: "Delete a subscription that has no unfinished messages",
		example: "  sluice subscription delete --give-up --reason 'its reader is gone for good' stock",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			query := url.Values{"reason": {reason}, "give_up": {strconv.FormatBool(giveUp)}}
			path := "/subscriptions/" + args[0] + "?" + query.Encode()
			return opsclient.Request{Method: http.MethodDelete, Path: path}, nil
		},
		check: checkSubscription, about: func(args []string) string { return "subscription " + args[0] },
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&giveUp, "give-up", false, "its unfinished messages end with it")
			reasonFlag(cmd, &reason)
		},
	}.command(c)
}

func checkSubscription(name string) error {
	if checkTopic(strings.TrimSuffix(name, ".default")) != nil {
		return badUsage("a subscription's name is 1 to 64 letters, digits, '-' or '_', starting with a letter or "+
			"digit, or TOPIC.default, got %q", name)
	}
	return nil
}

// receiverState says "waiting" of a subscription that is on and whose receiver is left alone.
func receiverState(s api.Subscription) string {
	if s.Enabled && s.PausedUntil != "" {
		return "waiting"
	}
	return onOff(s.Enabled)
}

func subscriptionCard(s api.Subscription) string {
	ms := func(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
	rows := [][]string{{"subscription", printable(s.Name)}, {"topic", printable(s.Topic)}, {"kind", s.Kind},
		{"state", receiverState(s)}}
	if s.PausedUntil != "" {
		rows = append(rows, []string{"waits until", s.PausedUntil}, []string{"because", printable(s.Paused)})
	}
	switch s.Kind {
	case "push":
		rows = append(rows, []string{"calls", s.Method + " " + printable(s.URL)}, []string{"timeout", ms(s.TimeoutMS)})
	case "channel":
		rows = append(rows, []string{"sent by", "channel " + s.Topic})
	default:
		rows = append(rows, []string{"lease", ms(s.LeaseMS)})
	}
	rows = append(rows, []string{"retries", strconv.Itoa(s.Retries) + " after 1, 3, 5, … times " + ms(s.RetryUnitMS)},
		[]string{"alert", printable(s.Alert)}, []string{"owner", printable(s.Owner)},
		[]string{"only events", dash(printable(strings.Join(s.Events, ", ")))},
		[]string{"only sales", dash(printable(strings.Join(s.Sales, ", ")))})
	if s.Messages != nil {
		n := countCells(s.Messages)
		rows = append(rows, []string{"pending", n[0]}, []string{"firing", n[1]}, []string{"retrying", n[2]},
			[]string{"dead letters", n[3]}, []string{"missed", number(s.Missed)})
	}
	if s.Secret != "" {
		rows = append(rows, []string{"secret", s.Secret + " (shown only now)"})
	}
	return table(rows...)
}

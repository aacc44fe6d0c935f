package cli

import (
	"net/http"
	"strings"
	"time"

	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

// subscriptionFlags are the settings of a subscription on the command line; only those that were given are sent.
type subscriptionFlags struct {
	url, method, alert, owner, secret, reason string
	timeout, lease, retryUnit                 time.Duration
	retries                                   int
	events, sales                             []string
}

func (s *subscriptionFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.url, "url", "", "address to call, http or https; without one its reader asks for messages")
	f.StringVar(&s.method, "method", "POST", "POST, PUT, PATCH or GET, which has the message in the query")
	f.DurationVar(&s.timeout, "timeout", 10*time.Second, "bound of one call")
	f.DurationVar(&s.lease, "lease", time.Minute, "how long a message that a reader has received is held for it")
	f.IntVar(&s.retries, "retries", 10, "attempts that may follow a failed first one")
	f.DurationVar(&s.retryUnit, "retry-unit", time.Minute, "1, 3, 5, … times this is the wait before each retry")
	f.StringVar(&s.alert, "alert", "", "e-mail address that hears of dead letters; needs notify.email.addr")
	f.StringVar(&s.owner, "owner", "", "who answers for the receiver")
	f.StringSliceVar(&s.events, "event", nil, "takes only this event, repeatable; '' is all")
	f.StringSliceVar(&s.sales, "sale", nil, "takes only this sale, or those like flash-*, repeatable; '' is all")
	f.StringVar(&s.secret, "secret", "", "signing secret, whsec_… (default: one is made)")
	f.StringVar(&s.reason, "reason", "", "why, for the admin log")
}

// body holds the settings that were given.
func (s *subscriptionFlags) body(cmd *cobra.Command) map[string]any {
	body := map[string]any{}
	for flag, setting := range map[string]struct {
		name  string
		value any
	}{
		"url": {"url", s.url}, "method": {"method", strings.ToUpper(s.method)}, "alert": {"alert", s.alert},
		"owner": {"owner", s.owner}, "secret": {"secret", s.secret}, "reason": {"reason", s.reason},
		"timeout": {"timeout_ms", s.timeout.Milliseconds()}, "lease": {"lease_ms", s.lease.Milliseconds()},
		"retries": {"retries", s.retries}, "retry-unit": {"retry_unit_ms", s.retryUnit.Milliseconds()},
		"event": {"events", noneIfEmpty(s.events)}, "sale": {"sales", noneIfEmpty(s.sales)},
	} {
		if cmd.Flags().Changed(flag) {
			body[setting.name] = setting.value
		}
	}
	return body
}

// noneIfEmpty reads a flag that an empty value clears.
func noneIfEmpty(list []string) []string {
	if len(list) == 0 || len(list) == 1 && list[0] == "" {
		return []string{}
	}
	return list
}

func newSubscriptionCreateCommand(c *cli) *cobra.Command {
	var flags subscriptionFlags
	var topic string
	return topicCommand{
		use: "create SUBSCRIPTION", short: "Create a subscription; the secret of one that is called is printed once",
		example: "  sluice subscription create --topic orders --event order.paid --sale 'flash-*' --lease 5m stock\n" +
			"  sluice subscription create --topic orders --url https://points.example/hook points",
		request: func(cmd *cobra.Command, args []string) (opsclient.Request, error) {
			body := flags.body(cmd)
			body["name"], body["topic"] = args[0], topic
			return opsclient.Request{Method: http.MethodPost, Path: "/subscriptions", Body: body}, checkTopic(topic)
		},
		show: newLayout(subscriptionCard), check: checkSubscription,
		about: func(args []string) string { return "subscription " + args[0] },
		flags: func(cmd *cobra.Command) {
			flags.define(cmd)
			cmd.Flags().StringVar(&topic, "topic", "", "whose messages it gets")
			needFlags(cmd, "topic")
		},
	}.command(c)
}

func newSubscriptionSetCommand(c *cli) *cobra.Command {
	var flags subscriptionFlags
	return subscriptionCommand(c, topicCommand{
		use: "set SUBSCRIPTION", short: "Change what is given and leave the rest",
		example: "  sluice subscription set --lease 10m --reason 'the stock system is slow at night' stock",
		request: func(cmd *cobra.Command, _ []string) (opsclient.Request, error) {
			body := flags.body(cmd)
			if _, why := body["reason"]; len(body) == 0 || len(body) == 1 && why {
				return opsclient.Request{}, badUsage("nothing to change: give at least one setting")
			}
			return opsclient.Request{Method: http.MethodPatch, Body: body}, nil
		},
		flags: flags.define,
	}, "")
}

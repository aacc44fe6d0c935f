package cli

import (
	"net/http"
	"strings"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

// topicFlags are the settings of a topic on the command line; only those that were given are sent.
type topicFlags struct {
	url, method, alert, owner, secret, store, reason string
	delay, timeout, retryUnit                        time.Duration
	retries                                          int
	events                                           []string
}

func (t *topicFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.url, "url", "", "address to call, http or https; '' where only subscriptions receive")
	f.StringVar(&t.method, "method", "POST", "POST, PUT, PATCH or GET, which has the message in the query")
	f.DurationVar(&t.delay, "delay", 0, "how long messages wait that name no time of their own")
	f.DurationVar(&t.timeout, "timeout", 10*time.Second, "bound of one call")
	f.IntVar(&t.retries, "retries", 10, "calls that may follow a failed first one")
	f.DurationVar(&t.retryUnit, "retry-unit", time.Minute, "1, 3, 5, … times this is the wait before each retry")
	f.StringVar(&t.alert, "alert", "", "e-mail address that hears of dead letters; needs notify.email.addr")
	f.StringVar(&t.owner, "owner", "", "who answers for the receiver")
	f.StringSliceVar(&t.events, "event", nil, "order event that becomes a message, repeatable; '' is none")
	f.StringVar(&t.secret, "secret", "", "signing secret, whsec_… (default: one is made)")
	f.StringVar(&t.store, "store", "", "which of delay.stores keeps its messages; 'default' is delay.redis")
	f.StringVar(&t.reason, "reason", "", "why, for the admin log")
}

// body returns the settings whose flags were given.
func (t *topicFlags) body(cmd *cobra.Command) map[string]any {
	body := map[string]any{}
	for flag, set := range map[string]func(){
		"url":        func() { body["url"] = t.url },
		"method":     func() { body["method"] = strings.ToUpper(t.method) },
		"delay":      func() { body["delay_ms"] = t.delay.Milliseconds() },
		"timeout":    func() { body["timeout_ms"] = t.timeout.Milliseconds() },
		"retries":    func() { body["retries"] = t.retries },
		"retry-unit": func() { body["retry_unit_ms"] = t.retryUnit.Milliseconds() },
		"alert":      func() { body["alert"] = t.alert },
		"owner":      func() { body["owner"] = t.owner },
		"secret":     func() { body["secret"] = t.secret },
		"store":      func() { body["store"] = t.store },
		"reason":     func() { body["reason"] = t.reason },
		"event": func() {
			body["events"] = t.events
			if len(t.events) == 0 || len(t.events) == 1 && t.events[0] == "" {
				body["events"] = []string{}
			}
		},
	} {
		if cmd.Flags().Changed(flag) {
			set()
		}
	}
	return body
}

func newTopicCreateCommand(c *cli) *cobra.Command {
	var flags topicFlags
	return topicCommand{
		use: "create TOPIC", short: "Create a topic; its secret is printed once",
		example: "  sluice topic create --url https://points.example/hook --delay 30m --alert ops@shop.example coupons",
		request: func(cmd *cobra.Command, args []string) (opsclient.Request, error) {
			body := flags.body(cmd)
			body["name"] = args[0]
			return opsclient.Request{Method: http.MethodPost, Path: "/topics", Body: body}, nil
		},
		show: newLayout(topicCard),
		flags: func(cmd *cobra.Command) {
			flags.define(cmd)
			needFlags(cmd, "url")
		},
	}.command(c)
}

func newTopicSetCommand(c *cli) *cobra.Command {
	var flags topicFlags
	return topicCommand{
		use: "set TOPIC", short: "Change what is given and leave the rest",
		example: "  sluice topic set --timeout 20s --reason 'the receiver is slow at night' coupons",
		request: func(cmd *cobra.Command, args []string) (opsclient.Request, error) {
			body := flags.body(cmd)
			if _, why := body["reason"]; len(body) == 0 || len(body) == 1 && why {
				return opsclient.Request{}, badUsage("nothing to change: give at least one setting")
			}
			return opsclient.Request{Method: http.MethodPatch, Path: "/topics/" + args[0], Body: body}, nil
		},
		show:  newLayout(topicCard),
		flags: flags.define,
	}.command(c)
}

func newTopicSwitchCommand(c *cli, verb, short string) *cobra.Command {
	var body api.WithReason
	return topicCommand{
		use: verb + " TOPIC", short: short,
		example: "  sluice topic " + verb + " --reason 'as agreed' coupons",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			return opsclient.Request{Method: http.MethodPost, Path: "/topics/" + args[0] + "/" + verb, Body: body}, nil
		},
		show:  newLayout(topicCard),
		flags: withReason(&body.Reason),
	}.command(c)
}

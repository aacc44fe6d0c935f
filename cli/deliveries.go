package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sluice/api"
	"sluice/cli/opsclient"

	"github.com/spf13/cobra"
)

// deliveryCommands look after the messages of a topic's own subscription, or of one that is named.
type deliveryCommands struct {
	command, kind, example string // "sluice topic", "topic", a name
	path                   func(name string) string
	check                  func(name string) error
}

func topicMessages() deliveryCommands {
	return deliveryCommands{command: "sluice topic", kind: "topic", example: "coupons", check: checkTopic,
		path: func(name string) string { return "/topics/" + name }}
}

func subscriptionMessages() deliveryCommands {
	return deliveryCommands{command: "sluice subscription", kind: "subscription", example: "stock",
		check: checkSubscription, path: func(name string) string { return "/subscriptions/" + name }}
}

// argument returns how usage names what the commands are about.
func (d deliveryCommands) argument() string { return strings.ToUpper(d.kind) }

func (d deliveryCommands) listMessages(c *cli) *cobra.Command {
	var state string
	return listCommand[api.Message]{
		use:     "list " + d.argument(),
		short:   "List the messages of a " + d.kind + " in a state, with the next attempt's time",
		example: "  " + d.command + " message list --state failed " + d.example,
		args:    cobra.ExactArgs(1),
		member:  "messages", paging: opsclient.BySkip(), what: "messages", limit: 20,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&state, "state", "waiting", "waiting, running, failed, complete or cancelled")
		},
		request: func(args []string) (listRequest, error) {
			r := listRequest{path: d.path(args[0]) + "/messages", about: d.kind + " " + args[0],
				query: map[string]string{"state": state}}
			return r, d.check(args[0])
		},
		header: []string{"MESSAGE", "STATE", "ATTEMPTS", "ADDED", "NEXT", "ENDED", "ERROR"},
		row: func(m api.Message) []string {
			return []string{printable(m.ID), m.State, strconv.Itoa(m.Attempts), m.AddedAt, dash(m.DueAt),
				dash(m.EndedAt), dash(printable(m.LastError))}
		},
	}.command(c)
}

func (d deliveryCommands) deadCommand(c *cli) *cobra.Command {
	return newGroup("dead", "Look after messages that could not be delivered",
		"  "+d.command+" dead list "+d.example+"\n  "+d.command+" dead retry "+d.example+" coupon-17",
		d.listDead(c),
		d.changeDead(c, "retry", "Deliver a dead letter again, its attempts forgotten"),
		d.changeDead(c, "drop", "Forget a dead letter"))
}

func (d deliveryCommands) listDead(c *cli) *cobra.Command {
	return listCommand[api.Message]{
		use: "list " + d.argument(), short: "List the dead letters of a " + d.kind + ", newest first",
		example: "  " + d.command + " dead list --limit 100 " + d.example,
		args:    cobra.ExactArgs(1),
		member:  "dead", paging: opsclient.BySkip(), what: "dead letters", limit: 20,
		request: func(args []string) (listRequest, error) {
			r := listRequest{path: d.path(args[0]) + "/dead", about: d.kind + " " + args[0]}
			return r, d.check(args[0])
		},
		header: []string{"MESSAGE", "ATTEMPTS", "ADDED", "DIED", "ERROR"},
		row: func(m api.Message) []string {
			return []string{printable(m.ID), strconv.Itoa(m.Attempts), m.AddedAt, m.EndedAt, printable(m.LastError)}
		},
	}.command(c)
}

func (d deliveryCommands) changeDead(c *cli, action, short string) *cobra.Command {
	var body api.WithReason
	return topicCommand{
		use: action + " " + d.argument() + " MESSAGE", short: short,
		example: "  " + d.command + " dead " + action + " --reason 'checked by hand' " + d.example + " coupon-17",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			if args[1] == "" || len(args[1]) > 128 || strings.ContainsAny(args[1], "/?#") {
				return opsclient.Request{}, badUsage("a message's id is at most 128 characters without / ? #, got %q",
					args[1])
			}
			path := d.path(args[0]) + "/dead/" + url.PathEscape(args[1]) + "/" + action
			return opsclient.Request{Method: http.MethodPost, Path: path, Body: body}, nil
		},
		about: func(args []string) string { return d.kind + " " + args[0] }, check: d.check,
		flags: withReason(&body.Reason),
	}.command(c)
}

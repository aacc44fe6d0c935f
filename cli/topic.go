package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/queue"

	"github.com/spf13/cobra"
)

func newTopicCommand(c *cli) *cobra.Command {
	cmd := newGroup("topic", "Manage topics of delayed callbacks",
		"  sluice topic create --url https://points.example/hook --delay 30m coupons\n"+
			"  sluice topic off coupons --reason 'the receiver is being moved'",
		newTopicCreateCommand(c), newTopicListCommand(c), newTopicShowCommand(c), newTopicSetCommand(c),
		newTopicSwitchCommand(c, "on", "Switch a topic on: its messages are delivered"),
		newTopicSwitchCommand(c, "off", "Switch a topic off: its messages wait"),
		newTopicDeleteCommand(c), newTopicMessageCommand(c), topicMessages().deadCommand(c))
	c.opsFlag(cmd)
	return cmd
}

// topicCommand is a command about one topic or subscription, or about one message of it.
type topicCommand struct {
	use, short, example string // use names the arguments: the topic or subscription, then the message
	request             func(cmd *cobra.Command, args []string) (opsclient.Request, error)
	show                layout // nil: the answer is not shown
	flags               func(*cobra.Command)
	about               func(args []string) string // what an error is about; nil: the topic
	check               func(name string) error    // of the first argument; nil: it is a topic
}

func (t topicCommand) command(c *cli) *cobra.Command {
	if t.about == nil {
		t.about = func(args []string) string { return "topic " + args[0] }
	}
	if t.check == nil {
		t.check = checkTopic
	}
	cmd := &cobra.Command{
		Use: t.use, Short: t.short, Example: t.example, Args: cobra.ExactArgs(strings.Count(t.use, " ")),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.check(args[0]); err != nil {
				return err
			}
			request, err := t.request(cmd, args)
			if err != nil {
				return err
			}
			return wrapError(t.about(args), c.call(cmd.Context(), request, t.show))
		},
	}
	if t.show != nil {
		c.jsonFlag(cmd)
	}
	if t.flags != nil {
		t.flags(cmd)
	}
	return cmd
}

// withReason makes the --reason flag of a topicCommand.
func withReason(reason *string) func(*cobra.Command) {
	return func(cmd *cobra.Command) { reasonFlag(cmd, reason) }
}

func newTopicShowCommand(c *cli) *cobra.Command {
	return topicCommand{
		use: "show TOPIC", short: "Show one topic and how many messages it has",
		example: "  sluice topic show coupons",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			return opsclient.Request{Method: http.MethodGet, Path: "/topics/" + args[0]}, nil
		},
		show: newLayout(topicCard),
	}.command(c)
}

func newTopicListCommand(c *cli) *cobra.Command {
	return listCommand[api.Topic]{
		use: "list", short: "List all topics by name",
		example: "  sluice topic list --json",
		member:  "topics",
		request: get("/topics"),
		header:  []string{"TOPIC", "STATE", "PENDING", "FIRING", "RETRYING", "DEAD", "URL"},
		row: func(t api.Topic) []string {
			cells := append([]string{printable(t.Name), onOff(t.Enabled)}, countCells(t.Messages)...)
			return append(cells, printable(t.URL))
		},
	}.command(c)
}

func newTopicDeleteCommand(c *cli) *cobra.Command {
	var reason string
	return topicCommand{
		use: "delete TOPIC", short: "Delete a topic that has no unfinished messages",
		example: "  sluice topic delete --reason 'nobody listens any more' coupons",
		request: func(_ *cobra.Command, args []string) (opsclient.Request, error) {
			path := "/topics/" + args[0] + "?reason=" + url.QueryEscape(reason)
			return opsclient.Request{Method: http.MethodDelete, Path: path}, nil
		},
		flags: withReason(&reason),
	}.command(c)
}

func checkTopic(name string) error {
	if !queue.ValidSaleID(name) { // a topic's name follows the rule of a sale's id
		return badUsage(
			"a topic's name is 1 to 64 letters, digits, '-' or '_', starting with a letter or digit, got %q", name)
	}
	return nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func countCells(m *api.TopicCounts) []string {
	if m == nil {
		return []string{"-", "-", "-", "-"}
	}
	return []string{number(m.Pending), number(m.Firing), number(m.Retrying), number(m.Dead)}
}

// topicCalls says whom a topic calls itself.
func topicCalls(t api.Topic) string {
	if t.URL == "" {
		return "nobody itself"
	}
	return t.Method + " " + printable(t.URL)
}

func topicCard(t api.Topic) string {
	ms := func(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
	rows := [][]string{{"topic", printable(t.Name)}, {"state", onOff(t.Enabled)},
		{"calls", topicCalls(t)}, {"subscriptions", dash(printable(strings.Join(t.Subscriptions, ", ")))},
		{"delay", ms(t.DelayMS)}, {"timeout", ms(t.TimeoutMS)},
		{"retries", strconv.Itoa(t.Retries) + " after 1, 3, 5, … times " + ms(t.RetryUnitMS)},
		{"alert", printable(t.Alert)}, {"owner", printable(t.Owner)},
		{"order events", printable(strings.Join(t.Events, ", "))}, {"store", dash(printable(t.Store))}}
	if t.LostAt != "" {
		rows = append(rows, []string{"lost", number(t.Lost) + " messages at most, last found " + printable(t.LostAt)})
	}
	if t.Unread != "" {
		rows = append(rows, []string{"messages", "not counted: " + printable(t.Unread)})
	}
	if t.Messages != nil {
		n := countCells(t.Messages)
		rows = append(rows, []string{"pending", n[0]}, []string{"firing", n[1]},
			[]string{"retrying", n[2]}, []string{"dead letters", n[3]})
	}
	if t.Secret != "" {
		rows = append(rows, []string{"secret", t.Secret + " (shown only now)"})
	}
	return table(rows...)
}

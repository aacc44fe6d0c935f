package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/queue"

	"github.com/spf13/cobra"
)

// topicView is what the commands show of a topic.
type topicView struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Method      string   `json:"method"`
	DelayMS     int64    `json:"delay_ms"`
	TimeoutMS   int64    `json:"timeout_ms"`
	Retries     int      `json:"retries"`
	RetryUnitMS int64    `json:"retry_unit_ms"`
	Alert       string   `json:"alert"`
	Owner       string   `json:"owner"`
	Enabled     bool     `json:"enabled"`
	Events      []string `json:"events"`
	Secret      string   `json:"secret"`
	Messages    *struct {
		Pending  int64 `json:"pending"`
		Firing   int64 `json:"firing"`
		Retrying int64 `json:"retrying"`
		Dead     int64 `json:"dead"`
	} `json:"messages"`
}

func newTopicCommand(c *cli) *cobra.Command {
	cmd := newGroup("topic", "Manage topics of delayed callbacks",
		"  sluice topic create --url https://points.example/hook --delay 30m coupons\n  sluice topic off coupons --reason 'the receiver is being moved'",
		newTopicCreateCommand(c), newTopicListCommand(c), newTopicShowCommand(c), newTopicSetCommand(c),
		newTopicSwitchCommand(c, "on", "Switch a topic on: its messages are delivered"),
		newTopicSwitchCommand(c, "off", "Switch a topic off: its messages wait"),
		newTopicDeleteCommand(c), newTopicMessageCommand(c), newTopicDeadCommand(c))
	c.opsFlag(cmd)
	return cmd
}

func newTopicShowCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show TOPIC",
		Short:   "Show one topic and how many messages it has",
		Example: "  sluice topic show coupons",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withTopic(cmd, args[0], func(ctx context.Context, o *opsClient) ([]byte, error) {
				return o.get(ctx, "/topics/"+args[0])
			})
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func newTopicListCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all topics by name",
		Example: "  sluice topic list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, "/topics")
				if err != nil || c.asJSON {
					return orPrint(err, func() error { return c.printRaw(text) })
				}
				var list struct {
					Topics []topicView `json:"topics"`
				}
				if err := json.Unmarshal(text, &list); err != nil {
					return o.at(fmt.Errorf("the list of topics is not readable: %w", err))
				}
				rows := [][]string{{"TOPIC", "STATE", "PENDING", "FIRING", "RETRYING", "DEAD", "URL"}}
				for _, t := range list.Topics {
					rows = append(rows, append([]string{printable(t.Name), t.state()}, append(t.counts(), printable(t.URL))...))
				}
				return c.print(table(rows...))
			})
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

// orPrint prints unless there is an error.
func orPrint(err error, print func() error) error {
	if err != nil {
		return err
	}
	return print()
}

func newTopicDeleteCommand(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "delete TOPIC",
		Short:   "Delete a topic that has no unfinished messages",
		Example: "  sluice topic delete --reason 'nobody listens any more' coupons",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				_, err := o.call(ctx, http.MethodDelete, "/topics/"+args[0]+"?reason="+url.QueryEscape(reason), nil)
				return aboutTopic(args[0], err)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return cmd
}

// withTopic runs what is answered with a topic, and shows that topic.
func (c *cli) withTopic(cmd *cobra.Command, name string, do func(context.Context, *opsClient) ([]byte, error)) error {
	if err := checkTopic(name); err != nil {
		return err
	}
	return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
		text, err := do(ctx, o)
		if err != nil || c.asJSON {
			return orPrint(aboutTopic(name, err), func() error { return c.printRaw(text) })
		}
		var t topicView
		if err := json.Unmarshal(text, &t); err != nil {
			return o.at(fmt.Errorf("topic %s is not readable: %w", name, err))
		}
		return c.print(topicCard(t))
	})
}

func checkTopic(name string) error {
	if !queue.ValidSaleID(name) { // a topic's name is made like a sale's id
		return badUsage("a topic's name is 1 to 64 letters, digits, '-' or '_', starting with a letter or digit, got %q", name)
	}
	return nil
}

// aboutTopic says which topic an error is about.
func aboutTopic(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("topic %s: %w", name, err)
}

func (t topicView) state() string {
	if t.Enabled {
		return "on"
	}
	return "off"
}

func (t topicView) counts() []string {
	if t.Messages == nil {
		return []string{"-", "-", "-", "-"}
	}
	m := t.Messages
	return []string{number(m.Pending), number(m.Firing), number(m.Retrying), number(m.Dead)}
}

func topicCard(t topicView) string {
	ms := func(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
	rows := [][]string{{"topic", printable(t.Name)}, {"state", t.state()}, {"calls", t.Method + " " + printable(t.URL)}, {"delay", ms(t.DelayMS)},
		{"timeout", ms(t.TimeoutMS)}, {"retries", strconv.Itoa(t.Retries) + " after 1, 3, 5, … times " + ms(t.RetryUnitMS)},
		{"alert", printable(t.Alert)}, {"owner", printable(t.Owner)}, {"order events", printable(strings.Join(t.Events, ", "))}}
	if t.Messages != nil {
		n := t.counts()
		rows = append(rows, []string{"pending", n[0]}, []string{"firing", n[1]}, []string{"retrying", n[2]}, []string{"dead letters", n[3]})
	}
	if t.Secret != "" {
		rows = append(rows, []string{"secret", t.Secret + " (shown only now)"})
	}
	return table(rows...)
}

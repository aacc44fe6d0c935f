package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newTopicMessageCommand(c *cli) *cobra.Command {
	return newGroup("message", "Add, look up and cancel single messages of a topic",
		"  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}'\n  sluice topic message show coupons coupon-17",
		newMessageAddCommand(c), newMessageShowCommand(c), newMessageCancelCommand(c))
}

func messagePath(topic, id string) string {
	return "/topics/" + topic + "/messages/" + url.PathEscape(id)
}

// aboutMessage says which message an error is about.
func aboutMessage(topic, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("message %s of topic %s: %w", id, topic, err)
}

func newMessageAddCommand(c *cli) *cobra.Command {
	var delay time.Duration
	var body, reason string
	cmd := &cobra.Command{
		Use:     "add TOPIC ID",
		Short:   "Add one message; adding it again changes nothing",
		Example: "  sluice topic message add coupons coupon-17 --delay 30m --body '{\"coupon\":17}' --reason 'its shopper asked'",
		Args:    cobra.ExactArgs(2),
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
			return aboutMessage(args[0], args[1], c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.call(ctx, http.MethodPost, "/topics/"+args[0]+"/messages", map[string]any{"messages": []any{message}, "reason": reason})
				if err != nil {
					return err
				}
				return c.printShown(text, addedLine)
			}))
		},
	}
	cmd.Flags().DurationVar(&delay, "delay", 0, "how long it waits (default: the topic's own)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	cmd.Flags().StringVar(&body, "body", "{}", "what is delivered, as JSON")
	c.jsonFlag(cmd)
	return cmd
}

func addedLine(text []byte) (string, error) {
	var answer struct {
		Messages []struct {
			ID    string `json:"id"`
			DueAt string `json:"due_at"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	lines := ""
	for _, m := range answer.Messages {
		lines += printable(m.ID) + " due at " + m.DueAt + "\n"
	}
	return lines, nil
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
			return aboutMessage(args[0], args[1], c.fetch(cmd, messagePath(args[0], args[1]), messageCard))
		},
	}
	c.jsonFlag(cmd)
	return cmd
}

func messageCard(text []byte) (string, error) {
	var m struct {
		ID        string          `json:"id"`
		State     string          `json:"state"`
		Attempts  int             `json:"attempts"`
		LastError string          `json:"last_error"`
		AddedAt   string          `json:"added_at"`
		DueAt     string          `json:"due_at"`
		EndedAt   string          `json:"ended_at"`
		Body      json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return "", err
	}
	return table([]string{"message", printable(m.ID)}, []string{"state", m.State}, []string{"attempts", strconv.Itoa(m.Attempts)},
		[]string{"last error", dash(printable(m.LastError))}, []string{"added", m.AddedAt}, []string{"due", dash(m.DueAt)},
		[]string{"ended", dash(m.EndedAt)}, []string{"body", dash(printable(string(m.Body)))}), nil
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
			return aboutMessage(args[0], args[1], c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				_, err := o.call(ctx, http.MethodDelete, messagePath(args[0], args[1])+"?reason="+url.QueryEscape(reason), nil)
				return err
			}))
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return cmd
}

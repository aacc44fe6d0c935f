package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newTopicDeadCommand(c *cli) *cobra.Command {
	return newGroup("dead", "Look after messages that could not be delivered", "  sluice topic dead list coupons\n  sluice topic dead retry coupons coupon-17",
		newTopicDeadListCommand(c),
		newTopicDeadActionCommand(c, "retry", "Deliver a dead letter again, its attempts forgotten"),
		newTopicDeadActionCommand(c, "drop", "Forget a dead letter"))
}

func newTopicDeadListCommand(c *cli) *cobra.Command {
	var skip, limit int
	cmd := &cobra.Command{
		Use:     "list TOPIC",
		Short:   "List the dead letters of a topic, newest first",
		Example: "  sluice topic dead list --limit 100 coupons",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			if limit < 1 || limit > 100 || skip < 0 {
				return badUsage("--limit must be between 1 and 100 and --skip 0 or more, got %d and %d", limit, skip)
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				text, err := o.get(ctx, "/topics/"+args[0]+"/dead?limit="+strconv.Itoa(limit)+"&skip="+strconv.Itoa(skip))
				if err != nil || c.asJSON {
					return orPrint(aboutTopic(args[0], err), func() error { return c.printRaw(text) })
				}
				return c.printDeadMessages(o, text)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "dead letters to list, at most 100")
	cmd.Flags().IntVar(&skip, "skip", 0, "newer ones to leave out")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) printDeadMessages(o *opsClient, text []byte) error {
	var list struct {
		Dead []struct {
			ID        string `json:"id"`
			Attempts  int    `json:"attempts"`
			AddedAt   string `json:"added_at"`
			EndedAt   string `json:"ended_at"`
			LastError string `json:"last_error"`
		} `json:"dead"`
		Next int `json:"next"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return o.at(fmt.Errorf("the list of dead letters is not readable: %w", err))
	}
	rows := [][]string{{"MESSAGE", "ATTEMPTS", "ADDED", "DIED", "ERROR"}}
	for _, d := range list.Dead {
		rows = append(rows, []string{printable(d.ID), strconv.Itoa(d.Attempts), d.AddedAt, d.EndedAt, printable(d.LastError)})
	}
	more := ""
	if list.Next > 0 {
		more = fmt.Sprintf("more with --skip %d\n", list.Next)
	}
	return c.print(table(rows...) + more)
}

func newTopicDeadActionCommand(c *cli, action, short string) *cobra.Command {
	var reason string
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
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
				path := "/topics/" + args[0] + "/dead/" + url.PathEscape(args[1]) + "/" + action
				_, err := o.call(ctx, http.MethodPost, path, map[string]string{"reason": reason})
				return aboutTopic(args[0], err)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the admin log")
	return cmd
}

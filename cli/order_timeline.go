package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// timelineView is what happened to one order.
type timelineView struct {
	Order orderView `json:"order"`
	Steps []struct {
		At         time.Time `json:"at"`
		Step       string    `json:"step"`
		DurationMS float64   `json:"duration_ms"`
		Attempt    int       `json:"attempt"`
		Instance   string    `json:"instance"`
		Actor      string    `json:"actor"`
		Reason     string    `json:"reason"`
	} `json:"steps"`
}

func newOrderTimelineCommand(c *cli) *cobra.Command {
	var user, cursor string
	var limit int
	cmd := &cobra.Command{
		Use:   "timeline [ORDER]",
		Short: "Show what happened to an order, or to a user's newest orders, step by step",
		Long: "timeline shows each step with its time, duration, instance and reason: the admission, the claim, attempts that did not\n" +
			"succeed at once, the end, payments, what operators did, and each notification.",
		Example: "  sluice order timeline 0198c0de-7a1b-7c3d-8e9f-0123456789ab\n  sluice order timeline --user ann",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (user != "") {
				return badUsage("timeline wants an order's id or --user")
			}
			if limit < 1 || limit > 20 {
				return badUsage("--limit must be between 1 and 20, got %d", limit)
			}
			query := url.Values{"user": {user}, "limit": {strconv.Itoa(limit)}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			path := "/timelines?" + query.Encode()
			if user == "" {
				path = "/orders/" + url.PathEscape(args[0]) + "/timeline"
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error { return c.timeline(ctx, o, path, user != "") })
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the `user` whose newest orders to show")
	cmd.Flags().IntVar(&limit, "limit", 5, "orders of the user to show, at most 20")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on with the user's orders where the page before ended")
	c.jsonFlag(cmd)
	return cmd
}

func (c *cli) timeline(ctx context.Context, o *opsClient, path string, many bool) error {
	text, err := o.get(ctx, path)
	if err != nil {
		return err
	}
	if c.asJSON {
		return c.printRaw(text)
	}
	list := struct {
		Timelines  []timelineView `json:"timelines"`
		NextCursor string         `json:"next_cursor"`
	}{Timelines: make([]timelineView, 1)}
	if many {
		err = json.Unmarshal(text, &list)
	} else {
		err = json.Unmarshal(text, &list.Timelines[0])
	}
	if err != nil {
		return o.at(fmt.Errorf("the timeline is not readable: %w", err))
	}
	cards := make([]string, len(list.Timelines))
	for i, t := range list.Timelines {
		cards[i] = timelineCard(t)
	}
	if list.NextCursor != "" {
		cards = append(cards, "more with --cursor "+printable(list.NextCursor)+"\n")
	}
	return c.print(strings.Join(cards, "\n"))
}

func timelineCard(t timelineView) string {
	rows := [][]string{{"AT", "STEP", "TOOK", "ATTEMPT", "INSTANCE", "WHO", "REASON"}}
	for _, s := range t.Steps {
		took, attempt := "", ""
		if s.DurationMS > 0 {
			took = time.Duration(s.DurationMS * float64(time.Millisecond)).String()
		}
		if s.Attempt > 0 {
			attempt = strconv.Itoa(s.Attempt)
		}
		rows = append(rows, []string{s.At.UTC().Format("2006-01-02T15:04:05.000Z"), printable(s.Step), dash(took), dash(attempt),
			dash(printable(s.Instance)), dash(printable(s.Actor)), dash(printable(s.Reason))})
	}
	return fmt.Sprintf("order %s of %s in %s: %s\n", printable(t.Order.OrderID), printable(t.Order.User), printable(t.Order.SaleID), t.Order.Status) + table(rows...)
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/notify"
)

func newEventsCommand(c *cli) *cobra.Command {
	cmd := newGroup("events", "Follow the events of orders",
		"  sluice events tail --event order.paid --sale 'flash-*'", newEventsTailCommand(c))
	c.opsFlag(cmd)
	return cmd
}

// tailFlags say which events to follow.
type tailFlags struct {
	events, sales []string
	since         string
	count         int
}

func newEventsTailCommand(c *cli) *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the events of orders as they happen, until interrupted",
		Long: "tail prints a line for each event: when, which, sale, order, units and what they cost, and why. With " +
			"--json a line is\nthe event as docs/events describes it. It begins now, or with --since; the log keeps " +
			"events for notify.stream.keep.\nA lost connection is made again and goes on after the last event. An " +
			"event may come twice, with the same id.\nAn interrupt ends it with exit code 0.",
		Example: "  sluice events tail\n  sluice events tail --since 2h --event order.failed --sale phone\n" +
			"  sluice events tail --since start --json | jq .order_id",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.query(c.now())
			if err != nil {
				return err
			}
			return c.withOps(cmd.Context(), func(ctx context.Context, o *opsclient.Client) error {
				t := tail{cli: c, ops: o, path: "/events?" + query.Encode(), left: f.count}
				return t.run(ctx)
			})
		},
	}
	cmd.Flags().StringArrayVar(&f.events, "event", nil, "only this event, such as order.paid; repeatable")
	cmd.Flags().StringArrayVar(&f.sales, "sale", nil, "only this sale, or a pattern of sales; repeatable")
	cmd.Flags().StringVar(&f.since, "since", "",
		"a `time` (RFC 3339), a duration back from now such as 2h, or start for the oldest event kept")
	cmd.Flags().IntVar(&f.count, "count", 0, "end after so many events; 0: never")
	c.jsonFlag(cmd)
	return cmd
}

// query returns the parameters of the event log.
func (f tailFlags) query(now time.Time) (url.Values, error) {
	for _, event := range f.events {
		if !slices.Contains(notify.Events(), event) {
			return nil, badUsage("--event knows %s, got %q", strings.Join(notify.Events(), ", "), event)
		}
	}
	for _, sale := range f.sales {
		if _, err := path.Match(sale, ""); err != nil || sale == "" {
			return nil, badUsage("--sale wants a sale's id, with * ? [a-z] for parts, got %q", sale)
		}
	}
	if f.count < 0 {
		return nil, badUsage("--count must be 0 or more, got %d", f.count)
	}
	query := url.Values{"event": f.events, "sale": f.sales}
	if f.since == "start" {
		query.Set("from", "0")
		return query, nil
	}
	text, err := parseSince(f.since, now)
	if err != nil || text == "" {
		return query, err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.UnixMilli() < 1 {
		return nil, badUsage("--since must be after 1970, got %q", f.since)
	}
	query.Set("from", strconv.FormatInt(at.UnixMilli()-1, 10)) // ids of the log begin with milliseconds
	return query, nil
}

const (
	tailPause     = 250 * time.Millisecond // before a lost connection is made again
	tailPauseMost = 10 * time.Second       // after several attempts
)

var errTailed = errors.New("as many events as were asked for")

// tail follows the event log over any number of connections.
type tail struct {
	cli   *cli
	ops   *opsclient.Client
	path  string
	place string // id of the last event that was printed, or where the server said to come back to
	left  int    // events to print; 0: no end
	heard bool   // there was a connection
	pause time.Duration
}

// run follows until ctx ends, which is how a tail ends. A first connection that fails is an error; later ones are tried
// again, unless the server refuses them for good.
func (t *tail) run(ctx context.Context) error {
	for {
		err := t.ops.Follow(ctx, t.path, t.place, func() { t.heard, t.pause = true, tailPause }, t.take)
		switch {
		case ctx.Err() != nil || errors.Is(err, errTailed):
			return nil
		case err != nil && (!t.heard || refusedForGood(err)):
			return err
		case err != nil && t.pause == tailPause: // said once, until there is a connection again
			if _, err := fmt.Fprintf(t.cli.err, "%s %v: trying again\n", t.cli.now().Format(time.RFC3339),
				err); err != nil {
				return fmt.Errorf("write to standard error: %w", err)
			}
		}
		select {
		case <-time.After(t.pause):
		case <-ctx.Done():
			return nil
		}
		t.pause = min(2*t.pause, tailPauseMost)
	}
}

// refusedForGood reports whether another connection would end the same way.
func refusedForGood(err error) bool {
	refused, ok := errors.AsType[opsclient.Error](err)
	_, own := errors.AsType[lineError](err)
	return own || ok && refused.Code != api.CodeUnavailable && refused.Code != api.CodeInternal &&
		refused.Code != api.CodeRateLimited
}

// lineError says that an event could not be printed.
type lineError struct{ error }

// take prints one event and remembers its place.
func (t *tail) take(e opsclient.Event) error {
	if e.Name == "order" {
		if err := t.print(e.Data); err != nil {
			return err
		}
	}
	if e.ID != "" {
		t.place = e.ID
	}
	if t.left > 0 && e.Name == "order" {
		if t.left--; t.left == 0 {
			return errTailed
		}
	}
	return nil
}

func (t *tail) print(data []byte) error {
	text := string(data)
	if !t.cli.asJSON {
		var e api.OrderEvent
		if err := json.Unmarshal(data, &e); err != nil {
			return lineError{t.ops.Wrap(fmt.Errorf("the event is not readable: %w", err))}
		}
		text = eventLine(e)
	}
	if err := t.cli.print(text + "\n"); err != nil {
		return lineError{err}
	}
	return nil
}

// eventLine shows an event on one line: when, which, sale, order, units and what they cost in all, and why.
func eventLine(e api.OrderEvent) string {
	cells := []string{printable(e.At), fmt.Sprintf("%-21s", printable(e.Type)), printable(e.SaleID),
		printable(e.OrderID)}
	if f := e.Facts; f != nil {
		cells = append(cells, strconv.Itoa(f.Quantity), amount(f.PriceCents*int64(f.Quantity), f.Currency))
		if why := f.Reason + f.Refund; why != "" {
			cells = append(cells, printable(why))
		}
	}
	return strings.Join(cells, "  ")
}

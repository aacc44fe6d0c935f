package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// logQuery is what to list of the admin log.
type logQuery struct {
	sale, actor, action, target, since, cursor string
	limit                                      int
}

func newAdminLogCommand(c *cli) *cobra.Command {
	var q logQuery
	cmd := &cobra.Command{
		Use:   "admin-log",
		Short: "List who changed what, when and why, newest first",
		Long: "admin-log shows every change of the admin API with its reason and what it changed; --json has the whole of before and after.\n" +
			"--action takes a whole name, such as sale.update, or the part before the dot.",
		Example: "  sluice admin-log --sale summer\n  sluice admin-log --actor cli:ann --action dead --since 2h",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := q.values(c.now())
			if err != nil {
				return err
			}
			return c.fetch(cmd, "/log?"+query.Encode(), logTable)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.sale, "sale", "", "changes of this sale, its line and its orders")
	f.StringVar(&q.actor, "actor", "", "changes by this one")
	f.StringVar(&q.action, "action", "", "changes of this kind")
	f.StringVar(&q.target, "target", "", "changes of this order, topic or channel")
	f.StringVar(&q.since, "since", "", "a `time` (RFC 3339), or a duration back from now such as 2h")
	f.StringVar(&q.cursor, "cursor", "", "go on where the page before ended")
	f.IntVar(&q.limit, "limit", 20, "changes to list, at most 100")
	return c.opsCommand(cmd)
}

func (q logQuery) values(now time.Time) (url.Values, error) {
	if q.limit < 1 || q.limit > 100 {
		return nil, badUsage("--limit must be between 1 and 100, got %d", q.limit)
	}
	if q.sale != "" {
		if err := checkSaleID(q.sale); err != nil {
			return nil, err
		}
	}
	since := q.since
	if d, err := time.ParseDuration(since); err == nil && d > 0 {
		since = now.Add(-d).UTC().Format(time.RFC3339)
	} else if _, err := time.Parse(time.RFC3339, since); since != "" && err != nil {
		return nil, badUsage("--since wants a time such as 2027-06-01T20:00:00+08:00, or a duration such as 2h, got %q", q.since)
	}
	query := url.Values{"limit": {strconv.Itoa(q.limit)}}
	for name, value := range map[string]string{"sale": q.sale, "actor": q.actor, "action": q.action, "target": q.target, "since": since, "cursor": q.cursor} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query, nil
}

func logTable(text []byte) (string, error) {
	var list struct {
		Entries []struct {
			At     string `json:"at"`
			Actor  string `json:"actor"`
			Action string `json:"action"`
			Target string `json:"target"`
			Reason string `json:"reason"`
			Before any    `json:"before"`
			After  any    `json:"after"`
		} `json:"entries"`
		NextCursor string `json:"next_cursor"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return "", err
	}
	rows := [][]string{{"AT", "WHO", "ACTION", "TARGET", "REASON", "CHANGE"}}
	for _, e := range list.Entries {
		rows = append(rows, []string{e.At, printable(e.Actor), printable(e.Action), printable(e.Target), dash(printable(e.Reason)), printable(difference(e.Before, e.After))})
	}
	more := ""
	if list.NextCursor != "" {
		more = "more with --cursor " + printable(list.NextCursor) + "\n"
	}
	return table(rows...) + more, nil
}

// mostDifference is how many characters of a change a table shows.
const mostDifference = 160

// difference says in few words what changed: the members that differ, or the whole of what is new or gone.
func difference(before, after any) string {
	was, _ := before.(map[string]any)
	is, _ := after.(map[string]any)
	if len(is) == 1 && is["outcome"] == "unknown" {
		return "outcome unknown"
	}
	if was == nil && is == nil {
		return brief(fmt.Sprintf("%s -> %s", compact(before), compact(after)))
	}
	all := maps.Clone(was)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, is)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		old, had := was[name]
		now, has := is[name]
		switch {
		case reflect.DeepEqual(old, now):
		case before == nil:
			parts = append(parts, name+" "+compact(now))
		case after == nil:
			parts = append(parts, "no "+name+" "+compact(old))
		case !had:
			parts = append(parts, name+" - -> "+compact(now))
		case !has:
			parts = append(parts, name+" "+compact(old)+" -> -")
		default:
			parts = append(parts, name+" "+compact(old)+" -> "+compact(now))
		}
	}
	return brief(strings.Join(parts, ", "))
}

func brief(text string) string {
	if utf8.RuneCountInString(text) > mostDifference {
		return string([]rune(text)[:mostDifference-1]) + "…"
	}
	return dash(text)
}

// compact is a value of the log on one line, a text without its quotes.
func compact(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return string(text)
}

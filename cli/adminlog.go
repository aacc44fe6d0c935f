package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
)

func newAdminLogCommand(c *cli) *cobra.Command {
	var since string
	query := struct{ sale, actor, action, target string }{}
	l := adminLogList()
	l.flags = func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.StringVar(&query.sale, "sale", "", "changes of this sale, its line and its orders")
		f.StringVar(&query.actor, "actor", "", "changes by this one")
		f.StringVar(&query.action, "action", "", "changes of this kind")
		f.StringVar(&query.target, "target", "", "changes of this order, topic or channel")
		f.StringVar(&since, "since", "", "a `time` (RFC 3339), or a duration back from now such as 2h")
	}
	l.request = func([]string) (listRequest, error) {
		if query.sale != "" {
			if err := checkSaleID(query.sale); err != nil {
				return listRequest{}, err
			}
		}
		from, err := parseSince(since, c.now())
		return listRequest{path: "/log", query: map[string]string{"sale": query.sale, "actor": query.actor,
			"action": query.action, "target": query.target, "since": from}}, err
	}
	cmd := l.command(c)
	c.opsFlag(cmd)
	return cmd
}

// parseSince reads a time, or a duration back from now.
func parseSince(text string, now time.Time) (string, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d).UTC().Format(time.RFC3339), nil
	}
	if _, err := time.Parse(time.RFC3339, text); text != "" && err != nil {
		return "", badUsage("--since wants a time such as 2027-06-01T20:00:00+08:00, or a duration such as 2h, got %q",
			text)
	}
	return text, nil
}

func adminLogList() listCommand[api.LogEntry] {
	return listCommand[api.LogEntry]{
		use: "admin-log", short: "List who changed what, when and why, newest first",
		long: "admin-log shows every change of the admin API with its reason and what it changed; " +
			"--json has the whole of before and after.\n" +
			"--action takes a whole name, such as sale.update, or the part before the dot.",
		example: "  sluice admin-log --sale summer\n  sluice admin-log --actor cli:ann --action dead --since 2h",
		member:  "entries", paging: opsclient.ByCursor(), what: "changes", limit: 20,
		header: []string{"AT", "WHO", "ACTION", "TARGET", "REASON", "CHANGE"},
		row: func(e api.LogEntry) []string {
			var before, after any
			_ = json.Unmarshal(e.Before, &before) // part of valid JSON
			_ = json.Unmarshal(e.After, &after)
			return []string{e.At, printable(e.Actor), printable(e.Action), printable(e.Target),
				dash(printable(e.Reason)), printable(describeChange(before, after))}
		},
	}
}

// maxDifference is how many characters of a change a table shows.
const maxDifference = 160

// describeChange returns the members that differ between before and after, or all of a value that was added or removed.
func describeChange(before, after any) string {
	was, _ := before.(map[string]any)
	is, _ := after.(map[string]any)
	if len(is) == 1 && is["outcome"] == "unknown" {
		return "outcome unknown"
	}
	if was == nil && is == nil {
		return shorten(fmt.Sprintf("%s -> %s", oneLine(before), oneLine(after)))
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
			parts = append(parts, name+" "+oneLine(now))
		case after == nil:
			parts = append(parts, "no "+name+" "+oneLine(old))
		case !had:
			parts = append(parts, name+" - -> "+oneLine(now))
		case !has:
			parts = append(parts, name+" "+oneLine(old)+" -> -")
		default:
			parts = append(parts, name+" "+oneLine(old)+" -> "+oneLine(now))
		}
	}
	return shorten(strings.Join(parts, ", "))
}

func shorten(text string) string {
	if utf8.RuneCountInString(text) > maxDifference {
		return string([]rune(text)[:maxDifference-1]) + "…"
	}
	return dash(text)
}

// oneLine returns a value of the log on one line, a text without its quotes.
func oneLine(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return string(text)
}

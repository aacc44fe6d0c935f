package cli

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cli/opsclient"
)

// mostShown is how many members a list command shows at most.
const mostShown = 1000

// listCommand is a command that lists what the operations listener answers in pages, as a table, JSON or CSV.
type listCommand[T any] struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	member                    string           // of an answer, which holds the page
	paging                    opsclient.Paging // the zero value: it has one page
	what                      string           // of --limit: "sales"
	limit                     int              // default of --limit
	flags                     func(*cobra.Command)
	// request checks flags and arguments, and says what to ask for.
	request func(args []string) (listRequest, error)
	header  []string
	row     func(T) []string // nil cells: it is no row, and note tells of it
	note    func([]T) string // nil, or what to print below the table
}

// listRequest is what a list command asks for.
type listRequest struct {
	path  string
	query map[string]string // what is empty is not sent
	about string            // what an error is about
}

// get is a listRequest for a path without a query.
func get(path string) func([]string) (listRequest, error) {
	return func([]string) (listRequest, error) { return listRequest{path: path}, nil }
}

// listFlags say how much of a list to show, from where on, and how.
type listFlags struct {
	limit int
	from  string
	asCSV bool
}

func (l listCommand[T]) command(c *cli) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use: l.use, Short: l.short, Long: l.long, Example: l.example, Args: l.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if l.paging.Param != "" && (f.limit < 1 || f.limit > mostShown) {
				return badUsage("--limit must be between 1 and %d, got %d", mostShown, f.limit)
			}
			if err := checkFrom(l.paging.Param, f.from); err != nil {
				return err
			}
			if c.asJSON && f.asCSV {
				return badUsage("--json and --csv: choose one")
			}
			request, err := l.request(args)
			if err != nil {
				return err
			}
			return l.run(cmd.Context(), c, request, f)
		},
	}
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	if param := l.paging.Param; param != "" {
		cmd.Flags().IntVar(&f.limit, "limit", l.limit, l.what+" to list, at most "+strconv.Itoa(mostShown))
		usage := map[string]string{
			"cursor": "go on where the list before ended", "skip": l.what + " to leave out at the beginning",
			"before": "only " + l.what + " older than this one",
		}[param]
		cmd.Flags().StringVar(&f.from, param, "", usage)
	}
	c.jsonFlag(cmd)
	cmd.Flags().BoolVar(&f.asCSV, "csv", false, "print CSV")
	if l.flags != nil {
		l.flags(cmd)
	}
	return cmd
}

// checkFrom refuses a place that is none.
func checkFrom(param, from string) error {
	if param == "cursor" || from == "" {
		return nil
	}
	if n, err := strconv.ParseInt(from, 10, 64); err != nil || n < 0 {
		return badUsage("--%s must be a whole number, 0 or more, got %q", param, from)
	}
	return nil
}

// list is what to ask the listener for.
func (l listCommand[T]) list(r listRequest, f listFlags) opsclient.List {
	query := url.Values{}
	for name, value := range r.query {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.from != "" {
		query.Set(l.paging.Param, f.from)
	}
	return opsclient.List{Path: r.path, Member: l.member, Query: query, Paging: l.paging}
}

func (l listCommand[T]) run(ctx context.Context, c *cli, r listRequest, f listFlags) error {
	return c.withOps(ctx, func(ctx context.Context, o *opsclient.Client) error {
		var all opsclient.Page
		pages := 0
		err := o.Pages(ctx, l.list(r, f), f.limit, func(page opsclient.Page) error {
			page.Members = append(all.Members, page.Members...)
			all = page
			pages++
			return nil
		})
		if err != nil {
			return about(r.about, err)
		}
		if c.asJSON {
			if pages == 1 {
				return c.printRaw(all.Text)
			}
			body := map[string]any{}
			for name, value := range all.Body {
				body[name] = value
			}
			body[l.member] = all.Members
			return c.printJSON(body)
		}
		text, err := l.show(all, f.asCSV)
		if err != nil {
			return fmt.Errorf("the answer is not readable: %w", err)
		}
		return c.print(text)
	})
}

// show lays out what was answered as a table or as CSV.
func (l listCommand[T]) show(page opsclient.Page, asCSV bool) (string, error) {
	members := make([]T, len(page.Members))
	rows := [][]string{l.header}
	for i, text := range page.Members {
		if err := json.Unmarshal(text, &members[i]); err != nil {
			return "", err
		}
		if row := l.row(members[i]); row != nil {
			rows = append(rows, row)
		}
	}
	if asCSV {
		return csvText(rows)
	}
	text := table(rows...)
	if l.note != nil {
		text += l.note(members)
	}
	return text + l.more(page), nil
}

// more says how to see the rest.
func (l listCommand[T]) more(page opsclient.Page) string {
	if page.Next == "" {
		return ""
	}
	next := printable(page.Next)
	if strings.ContainsAny(next, " '\"$|&;<>()") {
		next = "'" + next + "'"
	}
	total := ""
	if n := page.Body["total"]; n != nil {
		total = string(n) + " in all, "
	}
	return total + "more with --" + l.paging.Param + " " + next + "\n"
}

// csvText writes rows as CSV that no spreadsheet executes.
func csvText(rows [][]string) (string, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = harmless(cell)
		}
		if err := w.Write(cells); err != nil {
			return "", err
		}
	}
	w.Flush()
	return text.String(), w.Error()
}

// about says what an error is about.
func about(what string, err error) error {
	if err == nil || what == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

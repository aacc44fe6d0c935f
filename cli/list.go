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

// maxShown is how many members a list command shows at most.
const maxShown = 1000

// listCommand describes a command that prints a paged list of the operations listener, as a table, JSON or CSV.
type listCommand[T any] struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	member                    string           // of an answer: the array with the page
	paging                    opsclient.Paging // zero: there is only one page
	what                      string           // of --limit: "sales"
	limit                     int              // default of --limit
	flags                     func(*cobra.Command)
	// request checks flags and arguments and returns the request.
	request func(args []string) (listRequest, error)
	header  []string
	row     func(T) []string // nil: not a row of the table
	note    func([]T) string // returns the text below the table; may be nil
}

// listRequest is the request of a list command.
type listRequest struct {
	path  string
	query map[string]string // empty values are not sent
	about string            // subject of errors
}

// get returns a request function for a path without a query.
func get(path string) func([]string) (listRequest, error) {
	return func([]string) (listRequest, error) { return listRequest{path: path}, nil }
}

// listFlags are the flags of every list command.
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
			if l.paging.Param != "" && (f.limit < 1 || f.limit > maxShown) {
				return badUsage("--limit must be between 1 and %d, got %d", maxShown, f.limit)
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
		cmd.Flags().IntVar(&f.limit, "limit", l.limit, l.what+" to list, at most "+strconv.Itoa(maxShown))
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

// checkFrom refuses a --from that the list's paging cannot have produced.
func checkFrom(param, from string) error {
	if param == "cursor" || from == "" {
		return nil
	}
	if n, err := strconv.ParseInt(from, 10, 64); err != nil || n < 0 {
		return badUsage("--%s must be a whole number, 0 or more, got %q", param, from)
	}
	return nil
}

// list returns the list to read from the listener.
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
			return wrapError(r.about, err)
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

// show formats the answer as a table or as CSV.
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

// more returns a line that says how to see the rest.
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

// csvText returns rows as CSV whose cells no spreadsheet executes.
func csvText(rows [][]string) (string, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = escapeFormula(cell)
		}
		if err := w.Write(cells); err != nil {
			return "", err
		}
	}
	w.Flush()
	return text.String(), w.Error()
}

// wrapError puts the subject before an error; nil stays nil.
func wrapError(what string, err error) error {
	if err == nil || what == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

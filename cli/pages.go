package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

const (
	pageSize  = 100  // of one request
	mostShown = 1000 // of one list command
)

// listing is a list that the operations listener answers in pages.
type listing struct {
	path, member string // member of an answer holds the page
	query        url.Values
}

// pages hands a list to do, page by page, at most limit of it or all when limit is 0. It returns where the next page begins, empty
// after the last.
func (o *opsClient) pages(ctx context.Context, of listing, limit int, do func([]json.RawMessage) error) (string, error) {
	query := url.Values{}
	for name, values := range of.query {
		query[name] = values
	}
	cursor := ""
	for left := limit; ; {
		size := pageSize
		if limit > 0 {
			size = min(left, pageSize)
		}
		query.Set("limit", strconv.Itoa(size))
		text, err := o.get(ctx, of.path+"?"+query.Encode())
		if err != nil {
			return "", err
		}
		var page map[string]json.RawMessage
		var members []json.RawMessage
		var next string
		err = json.Unmarshal(text, &page)
		if err == nil {
			err = json.Unmarshal(page[of.member], &members)
		}
		if err == nil && page["next_cursor"] != nil {
			err = json.Unmarshal(page["next_cursor"], &next)
		}
		if err != nil {
			return "", o.at(fmt.Errorf("the list of %s is not readable: %w", of.member, err))
		}
		if err := do(members); err != nil {
			return "", err
		}
		left -= len(members)
		switch {
		case next == "" || limit > 0 && left <= 0:
			return next, nil
		case next == cursor:
			return "", o.at(fmt.Errorf("the pages of %s do not go on at cursor %q", of.member, printable(cursor)))
		}
		cursor = next
		query.Set("cursor", cursor)
	}
}

// pageFlags say how much of a list to show, and from where on.
type pageFlags struct {
	limit  int
	cursor string
}

func (f *pageFlags) add(cmd *cobra.Command, what string, limit int) {
	cmd.Flags().IntVar(&f.limit, "limit", limit, what+" to list, at most "+strconv.Itoa(mostShown))
	cmd.Flags().StringVar(&f.cursor, "cursor", "", "go on where the list before ended")
}

func (f *pageFlags) check() error {
	if f.limit < 1 || f.limit > mostShown {
		return badUsage("--limit must be between 1 and %d, got %d", mostShown, f.limit)
	}
	return nil
}

// list prints what of holds, as show lays it out, and where to go on.
func (c *cli) list(cmd *cobra.Command, of listing, f pageFlags, show func([]byte) (string, error)) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.cursor != "" {
		of.query = url.Values{"cursor": {f.cursor}}
	}
	return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
		all := []json.RawMessage{}
		next, err := o.pages(ctx, of, f.limit, func(page []json.RawMessage) error {
			all = append(all, page...)
			return nil
		})
		if err != nil {
			return err
		}
		answer := map[string]any{of.member: all}
		if next != "" {
			answer["next_cursor"] = next
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		if err := c.printShown(text, show); err != nil || next == "" || c.asJSON {
			return err
		}
		return c.print("more with --cursor " + printable(next) + "\n")
	})
}

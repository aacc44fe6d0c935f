package opsclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
)

// pageSize is how many members one request asks for.
const pageSize = 100

// Paging is how a list goes on: the parameter that asks for the next page, and the member of an answer that names it.
type Paging struct{ Param, Next string }

// List is a list that the operations listener answers in pages.
type List struct {
	Path, Member string // Member of an answer holds the page
	Query        url.Values
	Paging       Paging // the zero value: it has one page
}

// ByCursor is how lists go on that name their next page.
func ByCursor() Paging { return Paging{"cursor", "next_cursor"} }

// BySkip is how lists go on that count what was read.
func BySkip() Paging { return Paging{"skip", "next"} }

// ByVersion is how lists go on that are read from the newest version down.
func ByVersion() Paging { return Paging{"before", "next"} }

// Page is an answer with its members, and where the next page begins.
type Page struct {
	Text    []byte
	Body    map[string]json.RawMessage
	Members []json.RawMessage
	Next    string // empty after the last
}

// ReadPage reads an answer.
func (l List) ReadPage(text []byte) (page Page, err error) {
	page.Text = text
	if err := json.Unmarshal(text, &page.Body); err != nil {
		return page, err
	}
	if err := json.Unmarshal(page.Body[l.Member], &page.Members); err != nil {
		return page, err
	}
	if next := page.Body[l.Paging.Next]; next != nil {
		var value any
		if err := json.Unmarshal(next, &value); err != nil {
			return page, err
		}
		switch v := value.(type) {
		case string:
			page.Next = v
		case float64:
			page.Next = string(next)
		}
	}
	return page, nil
}

// Pages hands a list to do page by page: at most limit members of it, or all when limit is 0.
func (o *Client) Pages(ctx context.Context, l List, limit int, do func(Page) error) error {
	query := url.Values{}
	for name, values := range l.Query {
		query[name] = values
	}
	for left := limit; ; {
		if l.Paging.Param != "" {
			size := pageSize
			if limit > 0 {
				size = min(left, pageSize)
			}
			query.Set("limit", strconv.Itoa(size))
		}
		path := l.Path
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		text, err := o.Get(ctx, path)
		if err != nil {
			return err
		}
		page, err := l.ReadPage(text)
		if err != nil {
			return o.At(fmt.Errorf("the list of %s is not readable: %w", l.Member, err))
		}
		if err := do(page); err != nil {
			return err
		}
		left -= len(page.Members)
		if page.Next == "" || len(page.Members) == 0 || limit > 0 && left <= 0 {
			return nil
		}
		if before := query.Get(l.Paging.Param); before == page.Next {
			return o.At(fmt.Errorf("the pages of %s do not go on at cursor %q", l.Member, Printable(before)))
		}
		query.Set(l.Paging.Param, page.Next)
	}
}

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

// Paging names the parameter that requests the next page, and the member of an answer that has its value.
type Paging struct{ Param, Next string }

// List is a list that the operations listener answers in pages.
type List struct {
	Path, Member string // Member of an answer is the array with the page
	Query        url.Values
	Paging       Paging // the zero value: it has one page
}

// ByCursor returns the paging of lists with cursors.
func ByCursor() Paging { return Paging{"cursor", "next_cursor"} }

// BySkip returns the paging of lists that skip a number of members.
func BySkip() Paging { return Paging{"skip", "next"} }

// ByVersion returns the paging of lists of versions, newest first.
func ByVersion() Paging { return Paging{"before", "next"} }

// Page is one page of a list, with the value that requests the next.
type Page struct {
	Text    []byte
	Body    map[string]json.RawMessage
	Members []json.RawMessage
	Next    string // empty after the last
}

// ReadPage decodes an answer into a page.
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

// Pages calls do with each page of a list. The pages have at most limit members in all, or every member if limit is 0.
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
			return o.Wrap(fmt.Errorf("the list of %s is not readable: %w", l.Member, err))
		}
		if err := do(page); err != nil {
			return err
		}
		left -= len(page.Members)
		if page.Next == "" || len(page.Members) == 0 || limit > 0 && left <= 0 {
			return nil
		}
		if before := query.Get(l.Paging.Param); before == page.Next {
			return o.Wrap(fmt.Errorf("the pages of %s do not go on at cursor %q", l.Member, Printable(before)))
		}
		query.Set(l.Paging.Param, page.Next)
	}
}

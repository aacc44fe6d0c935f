package api

import (
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	defaultPage = 20
	mostPage    = 100
)

// TimeFormat is RFC 3339 in UTC with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// FormatTime writes a moment as all bodies do; the zero time is empty.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(TimeFormat)
}

// FormatMillis writes a moment given in unix milliseconds; 0 is a moment, too.
func FormatMillis(ms int64) string { return FormatTime(time.UnixMilli(ms)) }

// PageSize reads ?limit=.
func PageSize(c *gin.Context) (limit int, bad []FieldError) {
	text, ok := c.GetQuery("limit")
	if !ok {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > mostPage {
		bad = append(bad, FieldError{"limit", "must be a whole number from 1 to " + strconv.Itoa(mostPage)})
	}
	return n, bad
}

// Skip reads ?skip=, and adds to bad.
func Skip(c *gin.Context, bad []FieldError) (int64, []FieldError) {
	skip, err := strconv.ParseInt(c.DefaultQuery("skip", "0"), 10, 64)
	if err != nil || skip < 0 {
		bad = append(bad, FieldError{"skip", "must be a whole number, 0 or more"})
	}
	return skip, bad
}

// Cursor reads ?cursor= with parse, and adds to bad; nil where there is none.
func Cursor[C any](c *gin.Context, parse func(string) (C, bool), bad []FieldError) (*C, []FieldError) {
	text, ok := c.GetQuery("cursor")
	if !ok {
		return nil, bad
	}
	cursor, valid := parse(text)
	if !valid {
		bad = append(bad, BadCursor())
	}
	return &cursor, bad
}

// BadCursor refuses a cursor that no page has given.
func BadCursor() FieldError {
	return FieldError{"cursor", "must be the next_cursor of an earlier page"}
}

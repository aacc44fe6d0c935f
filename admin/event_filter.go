package admin

import (
	"fmt"
	"path"
	"slices"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/notify"
	"sluice/notify/form"
)

// maxFilter bounds how many events, and how many patterns of sales, a follower names.
const maxFilter = 20

// eventFilter is what a follower of the event log wants; an empty list is all.
type eventFilter struct {
	events []string
	sales  []string // patterns, as of path.Match
}

// readEventFilter reads ?event= and ?sale=, each of which may come several times.
func readEventFilter(c *gin.Context) (eventFilter, []api.FieldError) {
	f := eventFilter{events: c.QueryArray("event"), sales: c.QueryArray("sale")}
	var bad []api.FieldError
	for _, event := range f.events {
		if !slices.Contains(notify.Events(), event) {
			bad = append(bad, api.Field("event", fmt.Sprintf("must be one of %v", notify.Events())))
			break
		}
	}
	for _, sale := range f.sales {
		if _, err := path.Match(sale, ""); err != nil || sale == "" {
			bad = append(bad, api.Field("sale", "must be a sale's id, with * ? [a-z] for parts"))
			break
		}
	}
	if len(f.events) > maxFilter || len(f.sales) > maxFilter {
		bad = append(bad, api.Field("event", fmt.Sprintf("and sale must each come %d times at most", maxFilter)))
	}
	return f, bad
}

func (f eventFilter) takes(e form.Entry) bool {
	return (len(f.events) == 0 || slices.Contains(f.events, e.Type)) &&
		(len(f.sales) == 0 || slices.ContainsFunc(f.sales, func(pattern string) bool {
			matched, err := path.Match(pattern, e.SaleID)
			return err == nil && matched
		}))
}

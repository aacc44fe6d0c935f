package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sluice/cli/opsclient"
)

// findWindow returns the new start and end of a sale; nil leaves a time as it is.
type findWindow func(ctx context.Context, o *opsclient.Client, id string) (starts, ends *time.Time, err error)

// window checks --starts and --ends and returns the function that computes them. An end relative to an unchanged start
// needs the sale.
func (s saleSet) window(changed func(string) bool, now time.Time) (findWindow, error) {
	var starts, ends *time.Time
	if changed("starts") {
		start, err := parseTime("--starts", s.starts, now)
		if err != nil {
			return nil, err
		}
		starts = &start
	}
	if changed("ends") {
		from := now
		if starts != nil && s.ends != "now" {
			from = *starts
		}
		end, err := parseTime("--ends", s.ends, from)
		if err != nil {
			return nil, err
		}
		ends = &end
	}
	return func(ctx context.Context, o *opsclient.Client, id string) (*time.Time, *time.Time, error) {
		if starts != nil || !strings.HasPrefix(s.ends, "+") {
			return starts, ends, nil
		}
		text, err := o.Get(ctx, "/sales/"+id)
		if err != nil {
			return nil, nil, err
		}
		var sale struct {
			StartsAt time.Time `json:"starts_at"`
		}
		if err := json.Unmarshal(text, &sale); err != nil {
			return nil, nil, o.Wrap(fmt.Errorf("the start of sale %s is not readable: %w", id, err))
		}
		end, err := parseTime("--ends", s.ends, sale.StartsAt)
		return nil, &end, err
	}, nil
}

// parseTime reads now, an RFC 3339 time, or +D: the duration D after from.
func parseTime(flag, text string, from time.Time) (time.Time, error) {
	if text == "now" {
		return from.UTC(), nil
	}
	if after, ok := strings.CutPrefix(text, "+"); ok {
		d, err := time.ParseDuration(after)
		if err == nil && d > 0 {
			return from.Add(d).UTC(), nil
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, badUsage("%s wants now, a duration such as +1h, or a time such as 2027-06-01T20:00:00+08:00, got %q",
			flag, text)
	}
	return t.UTC(), nil
}

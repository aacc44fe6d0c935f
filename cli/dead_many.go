package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/order/deadletter"
)

// deadFilter has the flags that select dead letters.
type deadFilter struct{ reason, user, since, until string }

// addFlags adds the flags. reasonFlag names the one for the reason, because changes have a --reason of their own.
func (f *deadFilter) addFlags(cmd *cobra.Command, reasonFlag string) {
	cmd.Flags().StringVar(&f.reason, reasonFlag, "",
		"only those that failed for this reason, such as internal_error or unreadable")
	cmd.Flags().StringVar(&f.user, "user", "", "only this shopper's")
	cmd.Flags().StringVar(&f.since, "since", "", "only those that failed at this `time` or later (RFC 3339)")
	cmd.Flags().StringVar(&f.until, "until", "", "only those that failed before this `time` (RFC 3339)")
}

func (f *deadFilter) isSet() bool { return *f != deadFilter{} }

func (f *deadFilter) check() error {
	for flag, text := range map[string]string{"--since": f.since, "--until": f.until} {
		if _, err := time.Parse(time.RFC3339, text); text != "" && err != nil {
			return badUsage("%s wants a time such as 2026-11-11T00:00:00+08:00, got %q", flag, text)
		}
	}
	return nil
}

// params returns the filter as parameters of the API; empty ones select everything.
func (f *deadFilter) params(reasonName string) map[string]string {
	return map[string]string{reasonName: f.reason, "user": f.user, "since": f.since, "until": f.until}
}

// deadChange is one requeue or drop: of one letter, of those that a filter selects, or of all.
type deadChange struct {
	action       deadAction
	sale, reason string
	filter       deadFilter
	all          bool
	limit        int
	skip         int64
}

// check returns an error unless exactly one of an id, a filter and --all is given.
func (d *deadChange) check(args []string) error {
	ways := len(args)
	if d.all {
		ways++
	}
	if d.filter.isSet() {
		ways++
	}
	if ways != 1 {
		return badUsage("say which dead letters: one ORDER, or --all, or a filter " +
			"(--failed-reason, --user, --since, --until)")
	}
	if len(args) == 1 {
		return checkDead(d.sale, args[0])
	}
	if d.limit < 1 || d.limit > deadletter.MaxLetters || d.skip < 0 {
		return badUsage("--limit must be between 1 and %d and --skip 0 or more, got %d and %d",
			deadletter.MaxLetters, d.limit, d.skip)
	}
	if err := checkSaleID(d.sale); err != nil {
		return err
	}
	return d.filter.check()
}

// body returns the request body for many letters.
func (d *deadChange) body() map[string]any {
	body := map[string]any{"all": d.all, "reason": d.reason, "limit": d.limit, "skip": d.skip}
	for name, value := range d.filter.params("failed_reason") {
		if value != "" {
			body[name] = value
		}
	}
	return body
}

// changeMany requests the change of many letters and prints the result. It fails if letters were refused or if a store
// stopped the change.
func (c *cli) changeMany(ctx context.Context, o *opsclient.Client, d deadChange) error {
	text, err := o.Call(ctx, http.MethodPost, deadPath(d.sale, "")+"/"+d.action.verb, d.body())
	if err != nil {
		return fmt.Errorf("%s dead letters of sale %s: %w", d.action.verb, d.sale, err)
	}
	var result api.DeadLetterResult
	if err := json.Unmarshal(text, &result); err != nil {
		return o.Wrap(fmt.Errorf("the answer is not readable: %w", err))
	}
	if c.asJSON {
		err = c.printRaw(text)
	} else {
		err = c.print(deadResult(d.action, result))
	}
	switch {
	case err != nil:
		return err
	case result.Stopped != "":
		return fmt.Errorf("%s: a store ended it after %d: repeat the command", result.Stopped, result.Done)
	case result.Refused > 0:
		return errors.New(strconv.Itoa(result.Refused) + " dead letters were refused and are still there")
	}
	return nil
}

func deadResult(action deadAction, r api.DeadLetterResult) string {
	text := fmt.Sprintf("%d %s, %d refused, %d left\n", r.Done, action.done, r.Refused, r.Left)
	if len(r.Refusals) > 0 {
		rows := [][]string{{"REFUSED", "CODE", "WHY"}}
		for _, one := range r.Refusals {
			rows = append(rows, []string{printable(one.OrderID), printable(string(one.Code)), printable(one.Detail)})
		}
		text += table(rows...)
	}
	if r.Left > 0 {
		text += fmt.Sprintf("go on with --skip %d\n", r.Next)
	}
	return text
}

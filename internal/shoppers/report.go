package shoppers

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// progress writes a line that updates itself on a terminal, and one line a second elsewhere.
func (c *Shoppers) progress(ctx context.Context, w io.Writer) {
	every, begin, end := time.Second, "", "\n"
	if terminal(w) {
		every, begin, end = 100*time.Millisecond, "\r", ""
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			fmt.Fprintf(w, "%s%s\n\n", begin, c.state())
			return
		}
		fmt.Fprintf(w, "%s%s%s", begin, c.state(), end)
	}
}

func (c *Shoppers) state() string {
	const width = 30
	settled := int(c.settled.Load())
	bar := width * settled / max(c.size, 1)
	return fmt.Sprintf("  [%s%s] %d of %d shoppers answered, %d know their outcome", strings.Repeat("#", bar),
		strings.Repeat(".", width-bar),
		c.answered.Load(), c.size, settled)
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Outcomes returns how many shoppers had each outcome: a status or a code of refusal.
func (c *Shoppers) Outcomes() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.outcomes)
}

// Extra returns how many second clicks and second orders made another order. It must be 0.
func (c *Shoppers) Extra() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extra
}

// Report prints the outcome table.
func (c *Shoppers) Report(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OUTCOME\tSHOPPERS")
	names := make([]string, 0, len(c.outcomes))
	for name := range c.outcomes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return c.outcomes[b] - c.outcomes[a] })
	for _, name := range names {
		fmt.Fprintf(t, "%s\t%d\n", name, c.outcomes[name])
	}
	_ = t.Flush() // a broken pipe fails at the next line
	fmt.Fprintf(w, "\n%d double clicks and %d second orders made %d extra orders\n", c.doubles, c.seconds, c.extra)
	fmt.Fprintf(w, "answer to an order    p50 %s  p99 %s\n", percentile(c.answers, 50), percentile(c.answers, 99))
	fmt.Fprintf(w, "order to confirmation p50 %s  p99 %s\n\n", percentile(c.waits, 50), percentile(c.waits, 99))
}

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)].Round(100 * time.Microsecond)
}

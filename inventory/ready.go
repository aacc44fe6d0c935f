package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// readyNamed is how many lines an error of Ready names.
const readyNamed = 3

// Ready fails while lines are not compared with the ledger: after a start or a failover of Redis, while they are rebuilt, or when Redis
// lost them. A line that cannot be asked says nothing about the others; Ready fails for it only when none can be asked.
func (b *Book) Ready(ctx context.Context) error {
	var wanting []string
	var unasked error
	asked := 0
	now := b.Now()
	for some := range slices.Chunk(b.Active(), lookChunk) {
		views, failed := b.lines.Views(ctx, some)
		for i, sale := range some {
			if failed[i] != nil {
				unasked = failed[i]
				continue
			}
			asked++
			v := views[i]
			e, ok := b.Get(sale)
			lost := ok && !v.Exists && e.Sale.Epoch > 0 && !e.Sale.Finished(now)
			if lost || v.Exists && (v.Gate || !v.Verified) {
				wanting = append(wanting, sale)
			}
		}
	}
	if asked == 0 && unasked != nil {
		return fmt.Errorf("no line can be asked: %w", unasked)
	}
	if len(wanting) > 0 {
		named := strings.Join(wanting[:min(len(wanting), readyNamed)], ", ")
		return errors.New("not yet compared with the ledger: " + fmt.Sprint(len(wanting)) + " lines, such as " + named)
	}
	return nil
}

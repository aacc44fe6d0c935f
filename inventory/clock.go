package inventory

import "context"

// Recall asks Redis for its clock, so that Now follows it from the first order
// on and not only from the first look at a line, and for the pace at which
// lines drained last: without it, caps that follow the pace would start anew
// with each process.
func (b *Book) Recall(ctx context.Context) error {
	now, err := b.lines.Time(ctx)
	if err == nil {
		b.offset.Store(int64(now.Sub(b.now())))
		b.known.exchange(ctx, b.lines, b.now())
	}
	return err
}

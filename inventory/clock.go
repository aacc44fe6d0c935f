package inventory

import "context"

// SetClock asks Redis for the time, so that Now follows its clock from the
// first order on and not only from the first look at a line.
func (b *Book) SetClock(ctx context.Context) error {
	now, err := b.lines.Time(ctx)
	if err == nil {
		b.offset.Store(int64(now.Sub(b.now())))
	}
	return err
}

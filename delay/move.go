package delay

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// move takes a topic without unfinished messages from one store to another. From then on, the store before takes no
// messages of it, so nobody who does not know of the change adds any there. It remembers none either: a message that
// was finished may be added again. After an error the caller must reopen the topic where it was.
func (ts *Topics) move(ctx context.Context, tx *gorm.DB, from, to Topic) error {
	err := ts.messages.Forget(ctx, from)
	var subs []Subscription
	if err == nil {
		err = tx.Where("topic = ?", from.Name).Find(&subs).Error
	}
	for _, sub := range subs {
		if err == nil {
			err = ts.messages.Unused(ctx, sub.with(from), ErrTopicInUse)
		}
	}
	for _, sub := range subs {
		if err == nil {
			_, err = ts.messages.Erase(ctx, sub.with(from), true)
		}
	}
	if err == nil {
		err = ts.messages.Reopen(ctx, to)
	}
	if errors.Is(err, ErrTopicInUse) {
		return fmt.Errorf("%w; switch its senders and subscriptions so that all in store %s end, then move it to %s",
			err, from.StoreName(), to.StoreName())
	}
	return err
}

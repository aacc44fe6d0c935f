package delay

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// Mark compares how many messages of a topic its store has said it has taken with how many it knows of now.
type Mark struct {
	Era   int64 // in which they were counted: see Topic.MarkEra
	Known int64 // said, to this process or to one that has written it into the database
	Found int64
}

// Lost reports whether the store knows of fewer messages than it has taken.
func (m Mark) Lost() bool { return m.Found < m.Known }

// BehindError says that a store knows of fewer messages than it has taken: it has lost some.
type BehindError struct {
	Topic string
	Mark  Mark
}

// Error returns that the store is behind.
func (e BehindError) Error() string {
	return fmt.Sprintf("the store of topic %s had taken %d messages and knows of %d", e.Topic, e.Mark.Known,
		e.Mark.Found)
}

// Loss is messages that a store no longer knew.
type Loss struct {
	Topic, Store string
	// Messages is how many were lost at most: those it no longer knew, and no more than were unfinished.
	Messages int64
	Unknown  int64 // those it no longer knew, finished ones among them
}

// lookForLoss compares all topics with their stores, writes down what the stores have taken, and tells of losses. A
// store that hangs has been waited for by the round before.
func (ts *Topics) lookForLoss(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	topics := ts.All()
	// Counted first: where messages are lost in between, the marks show it and this count is not written.
	unfinished, uncounted := ts.messages.Unfinished(ctx, ts.Subscriptions())
	marks, failed := ts.messages.Marks(ctx, topics)
	var errs []error
	for i, t := range topics {
		switch n := unfinished[t.Name]; {
		case failed[i] != nil: // whoever uses the topic hears of it
		case marks[i].Lost():
			errs = append(errs, ts.NoteLoss(ctx, t.Name, marks[i]))
		case uncounted[t.Name] == nil && (marks[i].Found > t.MarkAdded || 2*n < t.Unfinished):
			errs = append(errs, ts.writeMark(ctx, t.Name, marks[i], n))
		}
	}
	return errors.Join(errs...)
}

// writeMark lets all processes, and those after them, know what a store has taken.
func (ts *Topics) writeMark(ctx context.Context, name string, m Mark, unfinished int64) error {
	err := ts.db.Write.WithContext(ctx).Model(&Topic{}).
		Where("name = ? AND mark_era = ? AND mark_added <= ?", name, m.Era, m.Found).
		UpdateColumns(map[string]any{"mark_added": m.Found, "unfinished": unfinished}).Error
	if err != nil {
		return fmt.Errorf("write down what was added to topic %s: %w", name, err)
	}
	return nil
}

// NoteLoss writes down that a store has lost messages of a topic, and tells of it. Of several processes that find the
// same loss, each tells of those messages only of which no other knew.
func (ts *Topics) NoteLoss(ctx context.Context, name string, m Mark) error {
	var loss Loss
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		loss = Loss{}
		t, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		known, before, era, added := max(m.Known, t.MarkAdded), m.Found, t.MarkEra+1, m.Found
		if t.MarkEra != m.Era { // another process has noted this loss
			before, era, added = t.MarkBefore, t.MarkEra, t.MarkAdded
			known = m.Known
			if t.MarkEra != m.Era+1 || known <= before {
				return nil
			}
		}
		loss = Loss{Topic: name, Store: t.StoreName(), Unknown: known - before}
		loss.Messages = min(loss.Unknown, t.Unfinished+max(known-max(t.MarkAdded, before), 0))
		return tx.Model(&Topic{}).Where("name = ?", name).UpdateColumns(map[string]any{"mark_era": era,
			"mark_added": added, "mark_before": known, "lost": t.Lost + loss.Messages, "lost_at": ts.now().UnixMilli(),
		}).Error
	})
	if errors.Is(err, ErrNoTopic) {
		return nil // it was deleted, and its count with it
	}
	if err != nil {
		return fmt.Errorf("note what the store of topic %s has lost: %w", name, err)
	}
	if loss.Unknown > 0 {
		ts.tellLoss(ctx, loss)
	}
	ts.refreshNow(ctx)
	return nil
}

func (ts *Topics) tellLoss(ctx context.Context, loss Loss) {
	ts.log.ErrorContext(ctx, "a store of delayed messages knows of fewer messages than it had taken: it was emptied, "+
		"or is older than it was", "store", loss.Store, "topic", loss.Topic, "lost_at_most", loss.Messages,
		"unknown_with_finished", loss.Unknown)
	if ts.onLoss != nil {
		ts.onLoss(ctx, loss)
	}
}

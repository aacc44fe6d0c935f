package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"
)

const (
	storeTries = 3
	storePause = 200 * time.Millisecond

	channelPanicked = "the channel panicked"
)

// deliver gives the batch to the channel. It reports cut when the end of the relay interrupted the delivery. Failures
// are then not counted as attempts: their rows are handed back.
func (r *Relay) deliver(ctx context.Context, ch Channel, b batch) (results []Result, cut bool) {
	if ctx.Err() != nil {
		return make([]Result, len(b.rows)), true
	}
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		idle(work, nil, r.cfg.Grace)
		close(interrupted)
		cancel()
	})
	results = r.call(work, ch, b)
	if !stop() && ctx.Err() != nil {
		select {
		case <-interrupted:
			cut = true
		default:
		}
	}
	return results, cut
}

// call calls the channel, turns a panic into a failure of the batch and returns as many results as messages.
func (r *Relay) call(ctx context.Context, ch Channel, b batch) (results []Result) {
	defer func() {
		if p := recover(); p != nil {
			r.log.ErrorContext(ctx, "notify: channel panicked", "channel", b.channel, "panic", p)
			results = make([]Result, len(b.rows))
			for i := range results {
				results[i] = Retry(channelPanicked)
			}
		}
	}()
	messages := messagesOf(b)
	reported := ch.Deliver(ctx, messages)
	results = make([]Result, len(messages))
	for i := copy(results, reported); i < len(results); i++ {
		results[i] = Retry(fmt.Sprintf("the channel reported %d results for %d messages", len(reported), len(messages)))
	}
	return results
}

// messagesOf returns what a channel gets of a batch.
func messagesOf(b batch) []Message {
	messages := make([]Message, len(b.rows))
	for i, row := range b.rows {
		messages[i] = Message{OrderID: row.OrderID, Event: row.Event, SaleID: row.SaleID, UserID: row.UserID,
			CreatedAt: time.UnixMilli(row.CreatedAt), Attempt: row.Attempts}
	}
	return messages
}

// rowChange is the change that one or more rows of a batch need.
type rowChange struct {
	count  string // the outcome, as counted in metrics
	state  int
	nextAt int64
	err    string
}

// storeResults stores the results of rows whose lease still stands. It goes on after ctx ends, for a bounded number of
// tries. If all fail, the lease ends and the rows are delivered again.
func (r *Relay) storeResults(ctx context.Context, l *channelLoop, b batch, results []Result, cut bool) error {
	ctx = context.WithoutCancel(ctx)
	changes := r.groupChanges(l, b, results, cut)
	var err error
	for range storeTries {
		if err = r.store(ctx, b, changes); err == nil {
			return nil
		}
		idle(ctx, nil, storePause/2+rand.N(storePause/2)) // #nosec G404 -- jitter
	}
	return fmt.Errorf("store results of %d notifications of channel %s, they will repeat: %w", len(b.rows), b.channel,
		err)
}

// groupChanges groups the rows by the change they need, so that a batch without failures is one statement. Unsent rows
// keep their place in the order, and the cursor goes back before them.
func (r *Relay) groupChanges(l *channelLoop, b batch, results []Result, cut bool) map[rowChange][]int64 {
	now := r.clock().UnixMilli()
	stretch := 1 + r.cfg.Jitter*rand.Float64() // #nosec G404 -- jitter
	changes := make(map[rowChange][]int64)
	for i, row := range b.rows {
		m := rowChange{err: storable(results[i].err)}
		switch res := results[i]; {
		case res.outcome == delivered:
			m.count, m.state, m.nextAt, m.err = countDelivered, StateDelivered, now, ""
		case res.outcome == skipped:
			m.count, m.state, m.nextAt = countSkipped, StateDelivered, now
		case res.outcome == overtaken:
			m.count, m.state, m.nextAt = countOvertaken, StateOvertaken, now
		case res.outcome == held:
			m.count, m.state, m.nextAt = countHeld, StatePending, row.NextAt
			l.heldFor = max(l.heldFor, res.after)
			l.rewind(row)
		case res.outcome == putOff:
			m.count, m.state, m.nextAt = countHeld, StatePending, now+res.after.Milliseconds()
		case res.outcome == permanent || (row.Attempts > r.cfg.Retries && !cut):
			m.count, m.state, m.nextAt = countDead, StateDead, now
		case cut:
			m.count, m.state, m.nextAt, m.err = countReleased, StatePending, row.NextAt, row.LastError
			l.rewind(row)
		default:
			wait := time.Duration(float64(r.cfg.wait(row.Attempts)) * stretch)
			m.count, m.state, m.nextAt = countRetry, StatePending, now+wait.Milliseconds()
		}
		changes[m] = append(changes[m], row.ID)
	}
	return changes
}

// store writes the changes in one transaction and counts them.
func (r *Relay) store(ctx context.Context, b batch, changes map[rowChange][]int64) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	counts := make(map[string]int64)
	err := r.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		clear(counts)
		for m, ids := range changes {
			changed := b.stillLeased(tx, ids).Updates(m.columns(r.instanceID))
			if changed.Error != nil {
				return changed.Error
			}
			counts[m.count] += changed.RowsAffected
			counts[countFenced] += int64(len(ids)) - changed.RowsAffected
		}
		return nil
	})
	if err != nil {
		return err
	}
	for outcome, n := range counts {
		r.metrics.finished.WithLabelValues(b.channel, outcome).Add(float64(n))
	}
	if counts[countDead] > 0 {
		r.reportDead(ctx, b.channel, counts[countDead])
	}
	return nil
}

// stillLeased selects those of the rows whose lease still stands; only pending rows have one. It sets no condition on
// the state: a database might then walk over all pending rows.
func (b batch) stillLeased(tx *gorm.DB, ids []int64) *gorm.DB {
	return whereIDs(tx, ids).Where("lease = ?", b.token)
}

// columns returns the columns that the change writes; instance is the one that delivered.
func (m rowChange) columns(instance int64) map[string]any {
	set := map[string]any{"state": m.state, "next_at": m.nextAt, "lease": 0, "leased_until": 0, "told_by": instance,
		"last_error": m.err}
	switch m.count {
	case countDelivered, countSkipped, countOvertaken:
		set["delivered_at"] = m.nextAt
	case countReleased, countHeld:
		set["attempts"] = gorm.Expr("attempts - 1") // the delivery did not happen
	}
	return set
}

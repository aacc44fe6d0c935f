package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"sluice/notify"

	"gorm.io/gorm"
)

const (
	storeTries = 3
	storePause = 200 * time.Millisecond

	channelPanicked = "the channel panicked"
)

// deliver gives the batch to the channel. It reports cut when the end of the relay interrupted the delivery. Failures
// are then not counted as attempts: their rows are handed back.
func (r *Relay) deliver(ctx context.Context, ch notify.Channel, b batch) (results []notify.Result, cut bool) {
	if ctx.Err() != nil {
		return make([]notify.Result, len(b.rows)), true
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
func (r *Relay) call(ctx context.Context, ch notify.Channel, b batch) (results []notify.Result) {
	defer func() {
		if p := recover(); p != nil {
			r.log.ErrorContext(ctx, "notify: channel panicked", "channel", b.channel, "panic", p)
			results = make([]notify.Result, len(b.rows))
			for i := range results {
				results[i] = notify.Retry(channelPanicked)
			}
		}
	}()
	messages := messagesOf(b)
	reported := ch.Deliver(ctx, messages)
	results = make([]notify.Result, len(messages))
	for i := copy(results, reported); i < len(results); i++ {
		results[i] = notify.Retry(fmt.Sprintf("the channel reported %d results for %d messages", len(reported),
			len(messages)))
	}
	return results
}

// messagesOf returns what a channel gets of a batch.
func messagesOf(b batch) []notify.Message {
	messages := make([]notify.Message, len(b.rows))
	for i, row := range b.rows {
		messages[i] = notify.Message{OrderID: row.OrderID, Event: row.Event, SaleID: row.SaleID, UserID: row.UserID,
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
func (r *Relay) storeResults(ctx context.Context, l *channelLoop, b batch, results []notify.Result, cut bool) error {
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
func (r *Relay) groupChanges(l *channelLoop, b batch, results []notify.Result, cut bool) map[rowChange][]int64 {
	now := r.clock().UnixMilli()
	stretch := 1 + r.cfg.Jitter*rand.Float64() // #nosec G404 -- jitter
	changes := make(map[rowChange][]int64)
	for i, row := range b.rows {
		res := results[i]
		heldFor, held := res.HeldFor()
		putOffFor, putOff := res.PutOffFor()
		m := rowChange{err: storable(res.Reason())}
		switch {
		case res.IsDelivered():
			m.count, m.state, m.nextAt, m.err = countDelivered, notify.StateDelivered, now, ""
		case res.IsSkipped():
			m.count, m.state, m.nextAt = countSkipped, notify.StateDelivered, now
		case res.IsOvertaken():
			m.count, m.state, m.nextAt = countOvertaken, notify.StateOvertaken, now
		case held:
			m.count, m.state, m.nextAt = countHeld, notify.StatePending, row.NextAt
			l.heldFor = max(l.heldFor, heldFor)
			l.rewind(row)
		case putOff:
			m.count, m.state, m.nextAt = countHeld, notify.StatePending, now+putOffFor.Milliseconds()
		case res.IsPermanent() || (row.Attempts > r.cfg.Retries && !cut):
			m.count, m.state, m.nextAt = countDead, notify.StateDead, now
		case cut:
			m.count, m.state, m.nextAt, m.err = countReleased, notify.StatePending, row.NextAt, row.LastError
			l.rewind(row)
		default:
			wait := time.Duration(float64(retryWait(r.cfg, row.Attempts)) * stretch)
			m.count, m.state, m.nextAt = countRetry, notify.StatePending, now+wait.Milliseconds()
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
	return notify.WhereIDs(tx, ids).Where("lease = ?", b.token)
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

// maxError is the width of last_error, in characters.
const maxError = 200

// storable makes any text fit last_error on every database: valid UTF-8, no NUL, cut to its width.
func storable(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "")
	if runes := []rune(text); len(runes) > maxError {
		return string(runes[:maxError])
	}
	return text
}

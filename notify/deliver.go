package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"
)

const (
	settleTries = 3
	settlePause = 200 * time.Millisecond
)

// deliver hands the batch to the channel. It reports cut when the relay's own end interrupted the delivery, so that what was
// not sent is handed back instead of counted as a failure.
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

// call turns a panic into a failure of the batch and evens out the number of results.
func (r *Relay) call(ctx context.Context, ch Channel, b batch) (results []Result) {
	defer func() {
		if p := recover(); p != nil {
			r.log.ErrorContext(ctx, "notify: channel panicked", "channel", b.channel, "panic", p)
			results = make([]Result, len(b.rows))
			for i := range results {
				results[i] = Retry("the channel panicked")
			}
		}
	}()
	messages := make([]Message, len(b.rows))
	for i, row := range b.rows {
		messages[i] = Message{OrderID: row.OrderID, Event: row.Event, SaleID: row.SaleID, UserID: row.UserID,
			CreatedAt: time.UnixMilli(row.CreatedAt), Attempt: row.Attempts}
	}
	reported := ch.Deliver(ctx, messages)
	results = make([]Result, len(messages))
	for i := copy(results, reported); i < len(results); i++ {
		results[i] = Retry(fmt.Sprintf("the channel reported %d results for %d messages", len(reported), len(messages)))
	}
	return results
}

// mark is one change for all rows that share it.
type mark struct {
	count  string // the outcome to count
	state  int
	nextAt int64
	err    string
}

// settle stores the results where the lease still stands. It outlives ctx, bounded by its tries; if it fails, the lease ends and
// the rows are delivered again.
func (r *Relay) settle(ctx context.Context, l *lane, b batch, results []Result, cut bool) error {
	ctx = context.WithoutCancel(ctx)
	marks := r.marks(l, b, results, cut)
	var err error
	for range settleTries {
		if err = r.store(ctx, b, marks); err == nil {
			return nil
		}
		idle(ctx, nil, settlePause/2+rand.N(settlePause/2)) // #nosec G404 -- jitter
	}
	return fmt.Errorf("store results of %d notifications of channel %s, they will repeat: %w", len(b.rows), b.channel, err)
}

// marks groups the rows by the change they need: a batch that went well is one statement. What was not sent keeps its place, and the
// lane goes back to it.
func (r *Relay) marks(l *lane, b batch, results []Result, cut bool) map[mark][]int64 {
	now := r.clock().UnixMilli()
	stretch := 1 + r.cfg.Jitter*rand.Float64() // #nosec G404 -- jitter
	marks := make(map[mark][]int64)
	for i, row := range b.rows {
		m := mark{err: storable(results[i].err)}
		switch res := results[i]; {
		case res.outcome == delivered:
			m.count, m.state, m.nextAt, m.err = countDelivered, StateDelivered, now, ""
		case res.outcome == skipped:
			m.count, m.state, m.nextAt = countSkipped, StateDelivered, now
		case res.outcome == overtaken:
			m.count, m.state, m.nextAt = countOvertaken, StateOvertaken, now
		case res.outcome == held:
			m.count, m.state, m.nextAt = countHeld, StatePending, row.NextAt
			l.hold = max(l.hold, res.after)
			l.back(row)
		case res.outcome == permanent || (row.Attempts > r.cfg.Retries && !cut):
			m.count, m.state, m.nextAt = countDead, StateDead, now
		case cut:
			m.count, m.state, m.nextAt, m.err = countReleased, StatePending, row.NextAt, row.LastError
			l.back(row)
		default: // a receiver may ask for a longer wait, never for a shorter one: it would use up the attempts
			wait := time.Duration(float64(r.cfg.wait(row.Attempts)) * stretch)
			m.count, m.state, m.nextAt = countRetry, StatePending, now+max(wait, res.after).Milliseconds()
		}
		marks[m] = append(marks[m], row.ID)
	}
	return marks
}

func (r *Relay) store(ctx context.Context, b batch, marks map[mark][]int64) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	counts := make(map[string]int64)
	err := r.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		clear(counts)
		for m, ids := range marks {
			changed := b.held(tx, ids).Updates(m.columns(r.number))
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
		r.gaveUp(ctx, b.channel, counts[countDead])
	}
	return nil
}

// held are those of the rows whose lease still stands; only pending rows have one. To ask for their state as well would lead a
// database that expects few pending rows to walk over all of them for each range of ids, and the longer the backlog, the longer.
func (b batch) held(tx *gorm.DB, ids []int64) *gorm.DB {
	return among(tx, ids).Where("lease = ?", b.token)
}

func (m mark) columns(by int64) map[string]any {
	set := map[string]any{"state": m.state, "next_at": m.nextAt, "lease": 0, "leased_until": 0, "told_by": by, "last_error": m.err}
	switch m.count {
	case countDelivered, countSkipped, countOvertaken:
		set["delivered_at"] = m.nextAt
	case countReleased, countHeld:
		set["attempts"] = gorm.Expr("attempts - 1") // the delivery did not happen
	}
	return set
}

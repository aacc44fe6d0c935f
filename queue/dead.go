package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Errors of bringing a dead letter back.
var (
	ErrNotDead    = errors.New("no such dead letter")
	ErrUnreadable = errors.New("the ticket cannot be read: it can only be dropped")
	ErrHeld       = errors.New("its user holds the limit by now")
)

// DeadLetter is a ticket that was given up on. Its units and its user's slot
// have returned.
type DeadLetter struct {
	Ticket Ticket // the id alone when it cannot be read
	Err    error  // why it cannot be read
}

// DeadLetters returns up to n dead letters, newest first, after skipping some.
func (l *Line) DeadLetters(ctx context.Context, skip, n int64) ([]DeadLetter, error) {
	ids, err := l.rdb.LRange(ctx, l.keys.dead, skip, skip+n-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the dead letters of %s: %w", l.sale, err)
	}
	return l.readLetters(ctx, ids)
}

// OldestDeadLetters returns up to n dead letters, oldest first, after skipping some.
func (l *Line) OldestDeadLetters(ctx context.Context, skip, n int64) ([]DeadLetter, error) {
	ids, err := l.rdb.LRange(ctx, l.keys.dead, -skip-n, -skip-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the oldest dead letters of %s: %w", l.sale, err)
	}
	slices.Reverse(ids)
	return l.readLetters(ctx, ids)
}

func (l *Line) readLetters(ctx context.Context, ids []string) ([]DeadLetter, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	records, err := l.rdb.HMGet(ctx, l.keys.orders, ids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the dead letters of %s: %w", l.sale, err)
	}
	letters := make([]DeadLetter, len(ids))
	for i, id := range ids {
		letters[i] = readLetter(id, records[i])
	}
	return letters, nil
}

// DeadLetter returns one dead letter, or ErrNotDead.
func (l *Line) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	err := l.rdb.LPos(ctx, l.keys.dead, id, redis.LPosArgs{}).Err()
	if errors.Is(err, redis.Nil) {
		return DeadLetter{}, ErrNotDead
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("find dead letter %s of %s: %w", id, l.sale, err)
	}
	records, err := l.rdb.HMGet(ctx, l.keys.orders, id).Result()
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %s of %s: %w", id, l.sale, err)
	}
	return readLetter(id, records[0]), nil
}

func readLetter(id string, record any) DeadLetter {
	text, _ := record.(string)
	t, err := ParseTicket(id, text)
	if err != nil {
		return DeadLetter{Ticket: Ticket{ID: id}, Err: ErrUnreadable}
	}
	return DeadLetter{Ticket: t}
}

// Requeue puts a dead letter back to be tried again, alone and with its
// attempts forgotten. Of several callers one does. It returns ErrNotDead,
// ErrUnreadable, ErrSoldOut, ErrHeld or ErrNotReady, having changed nothing.
// After any other error Requeued tells what has become of it.
func (l *Line) Requeue(ctx context.Context, id string) error {
	k := l.keys
	keys := []string{k.meta, k.stock, k.isolated, k.orders, k.holders, k.dead, k.attempts}
	n, err := l.change(ctx, l.scripts.requeue, keys, id, l.wakeChannel, l.sale)
	if err != nil {
		return err
	}
	switch n {
	case 1:
		return nil
	case 0:
		return ErrNotDead
	case -2:
		return ErrUnreadable
	case -3:
		return ErrSoldOut
	case -4:
		return ErrHeld
	}
	return ErrNotReady
}

// Requeued reports whether a letter that was dead has been put back since,
// whatever became of it then.
func (l *Line) Requeued(ctx context.Context, id string) (bool, error) {
	_, err := l.DeadLetter(ctx, id)
	if errors.Is(err, ErrNotDead) {
		return true, nil
	}
	return false, err
}

// DropDead forgets a dead letter, or returns ErrNotDead or ErrNotReady. Its order stays failed.
func (l *Line) DropDead(ctx context.Context, id string) error {
	n, err := l.change(ctx, l.scripts.drop, []string{l.keys.orders, l.keys.dead, l.keys.done, l.keys.meta}, id,
		keepDone)
	if err == nil && n == 0 {
		return ErrNotDead
	}
	return checkReady(n, err)
}

// ReasonLost is why an accepted order failed whose ticket Redis has lost and
// for which no unit was left.
const ReasonLost = "lost"

// Readmit takes an accepted order back into the line whose ticket was lost. When no unit or slot is left it records
// the order as failed with ReasonLost. The caller vouches that t was admitted, by a signed receipt, and that the
// database does not know it. The ticket goes to the end of the line under a new sequence. Repeating it, or calling it
// for a ticket that is not lost, changes nothing. It returns the ticket as it is. It returns ErrNotReady when the
// line is missing, of another epoch or being rebuilt.
func (l *Line) Readmit(ctx context.Context, epoch int64, t Ticket) (Ticket, error) {
	k := l.keys
	answer, err := l.durably(ctx, l.scripts.readmit, []string{k.meta, k.stock, k.wait, k.orders, k.holders},
		epoch, t.ID, t.User, t.Units, t.AdmittedAt.UnixMilli(), t.Fingerprint, ReasonLost, l.wakeChannel, l.sale,
		l.instanceText, k.seen.newestRevision())
	if err != nil {
		return Ticket{}, err
	}
	record, ok := answer.(string)
	if !ok {
		return Ticket{}, fmt.Errorf("readmit %s of %s answered %T", t.ID, l.sale, answer)
	}
	if record == "" {
		return Ticket{}, ErrNotReady
	}
	return ParseTicket(t.ID, record)
}

// Lose records an accepted order as failed with ReasonLost, for good: a receipt does not bring it
// back. The caller vouches that t was admitted and that the database does not know it. Repeating
// it, or calling it for a ticket that is not lost, changes nothing. Then made is false, and the
// ticket is returned as it is. Returns ErrNotReady when the line is missing, of another epoch,
// being rebuilt, or older than what this process has seen.
func (l *Line) Lose(ctx context.Context, epoch int64, t Ticket) (lost Ticket, made bool, err error) {
	k := l.keys
	reply, err := l.durably(ctx, l.scripts.lose, []string{k.meta, k.wait, k.orders},
		epoch, t.ID, t.User, t.Units, t.AdmittedAt.UnixMilli(), t.Fingerprint, ReasonLost, l.wakeChannel, l.sale,
		k.seen.newestRevision())
	if err != nil {
		return Ticket{}, false, err
	}
	answer, _ := reply.([]any)
	switch len(answer) {
	case 0:
		return Ticket{}, false, ErrNotReady
	case 2:
		record, _ := answer[1].(string)
		lost, err = ParseTicket(t.ID, record)
		return lost, toInt(answer[0]) == 1, err
	}
	return Ticket{}, false, fmt.Errorf("lose %s of %s answered %v", t.ID, l.sale, reply)
}

package queue

import (
	"context"
	"fmt"
	"strconv"
)

// crowdChunk is how many records one step of a count reads, about.
const crowdChunk = 1000

// Users calls visit for the user of every order the line keeps a record of:
// live ones, and ended ones that are still answered. Some are visited twice.
// It returns the epoch of the line and the sequence up to which nobody was
// left out; ErrNotReady when the line is missing, being rebuilt, or was loaded
// anew meanwhile. It reads in steps, so that a million orders hold nobody up for
// long; an error from visit ends it.
func (l *Line) Users(ctx context.Context, visit func(user string) error) (epoch, seq int64, err error) {
	epoch, seq, err = l.newest(ctx)
	if err != nil {
		return 0, 0, err
	}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var pairs []string
		pairs, cursor, err = l.rdb.HScan(ctx, l.keys.orders, cursor, "", crowdChunk).Result()
		if err != nil {
			return 0, 0, fmt.Errorf("count the users of %s: %w", l.sale, err)
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			t, err := ParseTicket(pairs[i], pairs[i+1])
			if err != nil {
				continue // not a record that admit could answer from
			}
			if err := visit(t.User); err != nil {
				return 0, 0, err
			}
		}
	}
	if again, _, err := l.newest(ctx); err != nil || again != epoch {
		return 0, 0, fmt.Errorf("count the users of %s: %w", l.sale, ErrNotReady)
	}
	return epoch, seq, nil
}

func (l *Line) newest(ctx context.Context) (epoch, seq int64, err error) {
	v, err := l.rdb.HMGet(ctx, l.keys.meta, metaEpoch, metaGate, metaSeq).Result()
	if err != nil {
		return 0, 0, fmt.Errorf("count the users of %s: %w", l.sale, err)
	}
	if v[0] == nil || v[1] != nil {
		return 0, 0, fmt.Errorf("count the users of %s: %w", l.sale, ErrNotReady)
	}
	return toInt(v[0]), toInt(v[2]), nil
}

// UsersSince returns the users of the tickets admitted after a sequence, and
// the sequence of the newest of them. It reports false when it cannot name
// every one of them, at most most: Users then tells.
func (l *Line) UsersSince(ctx context.Context, epoch, seq int64, most int) (users []string, newest int64, ok bool, err error) {
	keys := []string{l.keys.meta, l.keys.wait, l.keys.orders, l.keys.recent}
	list, err := l.scripts.usersSince.RunList(ctx, l.rdb, keys, epoch, seq, most)
	if err != nil || len(list) == 0 {
		return nil, 0, false, err
	}
	text, _ := list[0].(string)
	if newest, err = strconv.ParseInt(text, 10, 64); err != nil {
		return nil, 0, false, fmt.Errorf("count the users of %s: sequence %q", l.sale, text)
	}
	users = make([]string, 0, len(list)-1)
	for _, one := range list[1:] {
		user, _ := one.(string)
		users = append(users, user)
	}
	return users, newest, true, nil
}

package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Lookup is what is asked of one line about orders.
type Lookup struct {
	Sale string
	IDs  []string // at least one
}

// Found is the answer to a Lookup.
type Found struct {
	Tickets map[string]Ticket // those the line still knows, by order id
	Claimed int64             // sequence up to which tickets have been claimed
	Err     error             // of this line; what the others answered stands
}

// Lookup is Line.Lookup for several lines in one round trip.
func (ls *Lines) Lookup(ctx context.Context, asked []Lookup) []Found {
	pipe := ls.rdb.Pipeline()
	records, claimed := make([]*redis.SliceCmd, len(asked)), make([]*redis.StringCmd, len(asked))
	for i, one := range asked {
		keys := ls.table.of(one.Sale)
		records[i], claimed[i] = pipe.HMGet(ctx, keys.orders, one.IDs...), pipe.HGet(ctx, keys.meta, metaClaimed)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	found := make([]Found, len(asked))
	for i, one := range asked {
		err := claimed[i].Err()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		if err = errors.Join(records[i].Err(), err); err != nil {
			found[i].Err = fmt.Errorf("look up %d orders of %s: %w", len(one.IDs), one.Sale, err)
			continue
		}
		found[i].Tickets = readRecords(one.IDs, records[i].Val())
		found[i].Claimed, _ = claimed[i].Int64()
	}
	return found
}

// readRecords reads the records of ids; what is no record is left out.
func readRecords(ids []string, records []any) map[string]Ticket {
	known := make(map[string]Ticket, len(ids))
	for i, v := range records {
		record, ok := v.(string)
		if !ok {
			continue
		}
		if t, err := ParseTicket(ids[i], record); err == nil {
			known[ids[i]] = t
		}
	}
	return known
}

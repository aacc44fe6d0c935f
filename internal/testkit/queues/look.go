package queues

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// MustView reads the numbers of the line.
func (b *Bench) MustView() queue.View {
	b.T.Helper()
	v, err := b.View(b.Ctx)
	require.NoError(b.T, err)
	return v
}

// MustSnapshot reads what an audit compares.
func (b *Bench) MustSnapshot() queue.Snapshot {
	b.T.Helper()
	s, err := b.Snapshot(b.Ctx)
	require.NoError(b.T, err)
	return s
}

// Ticket returns what the line remembers of an order.
func (b *Bench) Ticket(id string) queue.Ticket {
	b.T.Helper()
	known, _, err := b.Lookup(b.Ctx, []string{id})
	require.NoError(b.T, err)
	require.Contains(b.T, known, id)
	return known[id]
}

// Attempts returns the failed attempts by order.
func (b *Bench) Attempts() map[string]string {
	b.T.Helper()
	return b.Redis.HGetAll(b.Ctx, b.Key("attempts")).Val()
}

// List returns a list of the line, the next to be claimed first.
func (b *Bench) List(name string) []string {
	b.T.Helper()
	list, err := b.Redis.LRange(b.Ctx, b.Key(name), 0, -1).Result()
	require.NoError(b.T, err)
	slices.Reverse(list)
	return list
}

// Overwrite puts a value of a wrong type into one key of the line.
func (b *Bench) Overwrite(name string) {
	b.T.Helper()
	require.NoError(b.T, b.Redis.Del(b.Ctx, b.Key(name)).Err())
	if name == "stock" {
		require.NoError(b.T, b.Redis.RPush(b.Ctx, b.Key(name), "no number").Err())
		return
	}
	require.NoError(b.T, b.Redis.Set(b.Ctx, b.Key(name), "of a wrong type", 0).Err())
}

// CheckUnits holds the line against what must always be true of it. Every unit is in stock, in flight or confirmed, and
// every ticket is in exactly one place. Who holds what agrees with the records, and nobody holds more than limit.
func (b *Bench) CheckUnits(limit int) {
	b.T.Helper()
	s := b.MustSnapshot()
	require.Empty(b.T, s.Recordless)
	require.Empty(b.T, s.ListedTwice)
	require.Zero(b.T, s.Unleased)
	require.Zero(b.T, s.EmptyLeases)
	units := s.Stock
	holders := map[string]map[string]string{}
	for id, record := range b.Redis.HGetAll(b.Ctx, b.Key("orders")).Val() {
		t, err := queue.ParseTicket(id, record)
		require.NoError(b.T, err)
		require.Positive(b.T, t.Position)
		inFlight, listed := s.InFlight[id]
		require.Equal(b.T, t.State == queue.Queued || t.Held, listed, "%s is %c", id, t.State)
		if listed {
			require.EqualValues(b.T, t.Units, inFlight)
		}
		if strings.ContainsRune("qcp", rune(t.State)) || t.Held {
			units += int64(t.Units)
			if holders[t.User] == nil {
				holders[t.User] = map[string]string{}
			}
			holders[t.User][id] = fmt.Sprintf("%d:%d", t.Slot, t.Units)
		}
	}
	require.Equal(b.T, s.Total, units, "units are lost or doubled")
	require.Equal(b.T, holders, b.Holders(limit))
}

// Holders returns user → order → "slot:units".
func (b *Bench) Holders(limit int) map[string]map[string]string {
	b.T.Helper()
	all := map[string]map[string]string{}
	for user, text := range b.Redis.HGetAll(b.Ctx, b.Key("holders")).Val() {
		all[user] = map[string]string{}
		slots, units := map[string]bool{}, 0
		for one := range strings.SplitSeq(text, ",") {
			f := strings.Split(one, ":")
			require.Len(b.T, f, 3, text)
			require.False(b.T, slots[f[1]], "%s holds slot %s twice: %s", user, f[1], text)
			slots[f[1]] = true
			n, err := strconv.Atoi(f[2])
			require.NoError(b.T, err)
			units += n
			all[user][f[0]] = f[1] + ":" + f[2]
		}
		require.LessOrEqual(b.T, units, limit, "%s holds %s", user, text)
	}
	return all
}

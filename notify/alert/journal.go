package alert

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	journalBeat  = 5 * time.Second  // how often an owner of unsent causes says that it lives
	journalGone  = 30 * time.Second // without a sign of life, by Redis' clock, its causes are adopted
	journalTime  = 2 * time.Second  // for one visit to Redis
	journalParts = "\x1f"           // between the parts of a field's name
)

// journal writes down in Redis what operators have not been told yet, so that a restart finds it. It is one hash.
// A process writes only fields of its own: a count for each way and cause, and when it last lived. It adopts what
// processes left that are gone.
type journal struct {
	rdb    redis.UniversalClient
	script *redis.Script
	key    string
	owner  string
	log    *slog.Logger
	count  func(way, cause string, n int64) // takes over an adopted count; it calls add

	mu     sync.Mutex
	counts map[entry]int64
	dirty  map[entry]bool
	wake   chan struct{}
}

//go:embed lua/adopt.lua
var adoptScript string

// entry is one count of a process.
type entry struct{ way, cause string }

// The kinds of fields: a count, and a sign of life.
const (
	fieldCount = "n"
	fieldAlive = "alive"
)

func newJournal(rdb redis.UniversalClient, key string, log *slog.Logger,
	count func(way, cause string, n int64)) *journal {
	return &journal{rdb: rdb, script: redis.NewScript(adoptScript), key: key, owner: rand.Text(), log: log,
		count: count, counts: map[entry]int64{}, dirty: map[entry]bool{}, wake: make(chan struct{}, 1)}
}

// add changes a count by n. It never blocks: run writes it down soon.
func (j *journal) add(way, cause string, n int64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	e := entry{way, cause}
	if j.counts[e] += n; j.counts[e] <= 0 {
		delete(j.counts, e)
	}
	j.dirty[e] = true
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default: // run has not looked since
	}
}

// run writes and adopts until ctx ends. What is left then is adopted by whoever comes next.
func (j *journal) run(ctx context.Context) {
	if j == nil {
		return
	}
	beat := time.NewTicker(journalBeat)
	defer beat.Stop()
	away := false
	for ctx.Err() == nil {
		err := errors.Join(j.adopt(ctx), j.write(ctx, true))
		if err != nil && !away && ctx.Err() == nil {
			j.log.WarnContext(ctx, "notify: a restart would not find what operators have yet to be told", "error", err)
		}
		away = err != nil
		for wait := true; wait; {
			select {
			case <-ctx.Done():
				wait = false
			case <-beat.C:
				wait = false
			case <-j.wake:
				if err := j.write(ctx, false); err != nil {
					j.log.DebugContext(ctx, "notify: alerts not written down, will try again", "error", err)
				}
			}
		}
	}
	if err := j.leave(context.WithoutCancel(ctx)); err != nil {
		j.log.WarnContext(ctx, "notify: what operators have yet to be told was not handed over", "error", err)
	}
}

// write stores the counts that changed, all with alive, and the sign of life.
func (j *journal) write(ctx context.Context, alive bool) error {
	j.mu.Lock()
	dirty := j.dirty
	j.dirty = map[entry]bool{}
	now := maps.Clone(j.counts)
	j.mu.Unlock()
	if len(dirty) == 0 && (!alive || len(now) == 0) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	lives, err := j.rdb.Time(ctx).Result()
	if err == nil {
		_, err = j.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			for e := range dirty {
				if n := now[e]; n > 0 {
					pipe.HSet(ctx, j.key, j.field(e), n)
				} else {
					pipe.HDel(ctx, j.key, j.field(e))
				}
			}
			if len(now) > 0 {
				pipe.HSet(ctx, j.key, j.alive(), lives.UnixMilli())
			} else {
				pipe.HDel(ctx, j.key, j.alive())
			}
			return nil
		})
	}
	if err != nil {
		j.mu.Lock()
		maps.Copy(j.dirty, dirty)
		j.mu.Unlock()
		return fmt.Errorf("write down unsent alerts: %w", err)
	}
	return nil
}

// leave writes what is left and takes the sign of life away: others need not wait for its end.
func (j *journal) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	return errors.Join(j.write(ctx, true), j.rdb.HDel(ctx, j.key, j.alive()).Err())
}

// adopt takes over the counts of processes that are gone. Of several that try, one gets them.
func (j *journal) adopt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	now, err := j.rdb.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask Redis for its time: %w", err)
	}
	adopted, err := j.script.Run(ctx, j.rdb, []string{j.key}, j.owner, now.UnixMilli(),
		now.Add(-journalGone).UnixMilli(), journalParts).StringSlice()
	if err != nil {
		return fmt.Errorf("look for unsent alerts of processes that are gone: %w", err)
	}
	for one := range slices.Chunk(adopted, 3) {
		n, err := strconv.ParseInt(one[2], 10, 64)
		if err != nil {
			return fmt.Errorf("read the journal of unsent alerts: %w", err)
		}
		j.count(one[0], one[1], n)
	}
	return nil
}

func (j *journal) field(e entry) string {
	return strings.Join([]string{fieldCount, j.owner, e.way, e.cause}, journalParts)
}

func (j *journal) alive() string { return fieldAlive + journalParts + j.owner }

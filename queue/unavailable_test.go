package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/store/redis"
)

// refusing makes a real Redis refuse, with an answer of its own.
type refusing struct {
	reason string   // of at least one call
	args   []string // of the server
	cause  func(t *testing.T, admin *goredis.Client)
}

// run is a cause of one command.
func run(args ...any) func(*testing.T, *goredis.Client) {
	return func(t *testing.T, admin *goredis.Client) { require.NoError(t, admin.Do(t.Context(), args...).Err()) }
}

func TestARealRedisThatRefusesIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]refusing{
		"memory":        {reason: "OOM", cause: run("CONFIG", "SET", "maxmemory", "1mb")},
		"transaction":   {reason: "EXECABORT", cause: run("CONFIG", "SET", "maxmemory", "1mb")},
		"password":      {reason: "NOAUTH", cause: askForPassword},
		"rights":        {reason: "NOPERM", cause: run("ACL", "SETUSER", "default", "-evalsha", "-eval")},
		"in the script": {reason: "ERR The", cause: run("ACL", "SETUSER", "default", "-hmget", "-hget", "-hset")},
		"keys":          {reason: "NOPERM", cause: run("ACL", "SETUSER", "default", "resetkeys", "~other:*")},
		"replica":       {reason: "READONLY", cause: run("REPLICAOF", "127.0.0.1", "1")},
		"replicas":      {reason: "NOREPLICAS", cause: run("CONFIG", "SET", "min-replicas-to-write", "3")},
		"disk":          {reason: "MISCONF", cause: breakSaving},
		"busy":          {reason: "BUSY", args: []string{"--busy-reply-threshold", "20"}, cause: keepBusy},
		"loading": {reason: "LOADING", cause: keepLoading, args: []string{
			"--enable-debug-command", "yes", "--key-load-delay", "2000", "--loading-process-events-interval-bytes",
			"1024"}},
		"paused": {reason: "no answer", cause: run("CLIENT", "PAUSE", 60_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t, one.args...)
			b := newBox(t, server.Addr(), queues.OpenSale())
			b.Enqueue(20)
			b.SettleAll(b.MustClaim("first", 5), queue.OpConfirm)
			snap := b.MustSnapshot()
			one.cause(t, server.Client())
			reasons := map[string]error{}
			for call, err := range b.everyCall(snap) {
				if err == nil || errors.Is(err, queue.ErrNotReady) {
					continue
				}
				require.True(t, redis.Unavailable(err), "%s: %v", call, err)
				reasons[redis.Reason(err)] = err
			}
			require.Contains(t, reasons, one.reason)
		})
	}
}

// everyCall makes calls of every kind, none for longer than two seconds.
func (b *box) everyCall(snap queue.Snapshot) map[string]error {
	errs := map[string]error{}
	for name, call := range map[string]func(ctx context.Context) error{
		"admit": func(ctx context.Context) error {
			_, err := b.Admit(ctx, b.Epoch, queues.Rate, []queue.Request{queues.Ask("late", "late")})
			return err
		},
		"claim": func(ctx context.Context) error { _, err := b.Claim(ctx, "second", 5, queues.Long); return err },
		"view":  func(ctx context.Context) error { _, err := b.View(ctx); return err },
		"views": func(ctx context.Context) error {
			_, errs := b.Lines.Views(ctx, []string{"sale", "other"})
			return errors.Join(errs...)
		},
		"snapshot": func(ctx context.Context) error { _, err := b.Snapshot(ctx); return err },
		"released": func(ctx context.Context) error { _, _, err := b.ReleasedSince(ctx, snap); return err },
		"look-up":  func(ctx context.Context) error { _, _, err := b.Lookup(ctx, []string{"sale-00001"}); return err },
		"held": func(ctx context.Context) error {
			_, failed := b.Lines.HeldBy(ctx, []string{"sale"}, "user-00001")
			return failed["sale"]
		},
	} {
		ctx, cancel := context.WithTimeout(b.Ctx, 2*time.Second)
		errs[name] = call(ctx)
		cancel()
	}
	return errs
}

// askForPassword holds for new connections.
func askForPassword(t *testing.T, admin *goredis.Client) {
	run("CONFIG", "SET", "requirepass", "later")(t, admin)
	run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")(t, admin)
}

// breakSaving lets a snapshot fail: a folder has the name of its file.
func breakSaving(t *testing.T, admin *goredis.Client) {
	ctx := t.Context()
	dir := admin.ConfigGet(ctx, "dir").Val()["dir"]
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "dump.rdb", "in the way"), 0o700))
	require.NoError(t, admin.ConfigSet(ctx, "save", "3600 1").Err())
	require.NoError(t, admin.BgSave(ctx).Err())
	require.Eventually(t, func() bool {
		return strings.Contains(admin.Info(ctx, "persistence").Val(), "rdb_last_bgsave_status:err")
	}, 20*time.Second, 10*time.Millisecond)
}

// keepBusy runs a script that does not end by itself.
func keepBusy(t *testing.T, admin *goredis.Client) {
	forever := testkit.ProductClient(t, admin.Options().Addr)
	var running sync.WaitGroup
	running.Go(func() { _ = forever.Do(context.Background(), "EVAL", "while true do end", 0).Err() })
	t.Cleanup(func() {
		_ = admin.Do(context.Background(), "SCRIPT", "KILL").Err()
		_ = forever.Close()
		running.Wait()
	})
	awaitAnswer(t, admin, "BUSY")
}

// keepLoading lets the server read its data again, slowly.
func keepLoading(t *testing.T, admin *goredis.Client) {
	require.NoError(t, admin.Do(t.Context(), "DEBUG", "POPULATE", 5000).Err())
	slow := testkit.ProductClient(t, admin.Options().Addr)
	var running sync.WaitGroup
	running.Go(func() { _ = slow.Do(context.Background(), "DEBUG", "RELOAD").Err() })
	t.Cleanup(func() {
		_ = slow.Close()
		running.Wait()
	})
	awaitAnswer(t, admin, "LOADING")
}

func awaitAnswer(t *testing.T, admin *goredis.Client, code string) {
	t.Helper()
	require.Eventually(t, func() bool { return goredis.HasErrorPrefix(admin.Get(t.Context(), "any").Err(), code) },
		20*time.Second, 5*time.Millisecond)
}

package queue_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// reply is an answer of Redis as the client library has it.
type reply string

func (r reply) Error() string { return string(r) }

// RedisError marks it as one.
func (reply) RedisError() {}

func TestUnavailableByText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"EXECABORT Transaction discarded because of previous errors.":                             "EXECABORT",
		"NOAUTH Authentication required.":                                                         "NOAUTH",
		"WRONGPASS invalid username-password pair or user is disabled.":                           "WRONGPASS",
		"NOPERM this user has no permissions to run the 'evalsha' command":                        "NOPERM",
		"UNKILLABLE Sorry the script already executed write commands":                             "UNKILLABLE",
		"NOSCRIPT No matching script. Please use EVAL.":                                           "NOSCRIPT",
		"CROSSSLOT Keys in request don't hash to the same slot":                                   "CROSSSLOT",
		"MOVED 3999 127.0.0.1:6381":                                                               "MOVED",
		"ASK 3999 127.0.0.1:6381":                                                                 "ASK",
		"CLUSTERDOWN The cluster is down":                                                         "CLUSTERDOWN",
		"LOADING Redis is loading the dataset in memory":                                          "LOADING",
		"OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:9.":  "OOM",
		"ERR Error running script (call to f_1f): @user_script:9: -OOM command not allowed":       "OOM",
		"MISCONF Redis is configured to save RDB snapshots":                                       "MISCONF",
		"READONLY You can't write against a read only replica. script: 1f, on @user_script:9.":    "READONLY",
		"NOREPLICAS Not enough good replicas to write.":                                           "NOREPLICAS",
		"MASTERDOWN Link with MASTER is down":                                                     "MASTERDOWN",
		"TRYAGAIN Multiple keys request during rehashing of slot":                                 "TRYAGAIN",
		"BUSY Redis is busy running a script.":                                                    "BUSY",
		"ERR max number of clients reached":                                                       "ERR max",
		"ERR unknown command 'EVALSHA', with args beginning with: ":                               "ERR unknown",
		"ERR The user executing the script can't run this command script: 1f, on @user_script:1.": "ERR The",
		"ERR DB index is out of range":                                                            "ERR DB",
		"ERR proxy error: no upstream host":                                                       "ERR proxy",
		"NEWCODE that nobody has heard of":                                                        "NEWCODE",
		"ERR Protocol error: unauthenticated multibulk length":                                    "ERR Protocol",
	} {
		err := fmt.Errorf("redis script admit on sluice:{s/0}:meta: %w", reply(text))
		require.True(t, queue.Unavailable(err), text)
		require.Equal(t, want, queue.Reason(err), text)
	}
	for _, text := range []string{
		"WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:1.",
		":31: WRONGTYPE Operation against a key holding the wrong kind of value",
		"ERR user_script:3: attempt to index a nil value script: 1f, on @user_script:3.",
		"ERR Error running script (call to f_1f): @user_script:3: user_script:3: attempt to compare nil with number",
		"ERR Error compiling script (new function): user_script:1: '=' expected near 'is'",
		"ERR wrong number of arguments for 'hset' command",
		"ERR syntax error",
		"ERR value is not an integer or out of range script: 1f, on @user_script:3.",
		"ERR Number of keys can't be greater than number of args",
	} {
		require.False(t, queue.Unavailable(fmt.Errorf("a call: %w", reply(text))), text)
	}
}

func TestUnavailableOfTheWay(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, redis.ErrClosed, redis.ErrPoolTimeout,
		&net.OpError{Op: "dial", Err: errors.New("connection refused")}, tls.AlertError(42), tls.RecordHeaderError{},
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, x509.UnknownAuthorityError{},
		errors.New("redis: all sentinels specified in configuration are unreachable"), errors.New("redis: cluster has no nodes"),
	} {
		require.True(t, queue.Unavailable(fmt.Errorf("a call: %w", err)), "%v", err)
		require.Equal(t, "no answer", queue.Reason(err))
	}
	for _, err := range []error{
		nil, redis.Nil, redis.TxFailedErr, errors.New("view of sale has 3 values, not 17"), queue.ErrNotReady, queue.ErrFull,
		queue.ErrFenced,
	} {
		require.False(t, queue.Unavailable(err), "%v", err)
	}
}

// refusing makes a real Redis refuse, with an answer of its own.
type refusing struct {
	reason string   // of at least one call
	args   []string // of the server
	cause  func(t *testing.T, admin *redis.Client)
}

// run is a cause of one command.
func run(args ...any) func(*testing.T, *redis.Client) {
	return func(t *testing.T, admin *redis.Client) { require.NoError(t, admin.Do(t.Context(), args...).Err()) }
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
			"--enable-debug-command", "yes", "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"}},
		"paused": {reason: "no answer", cause: run("CLIENT", "PAUSE", 60_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t, one.args...)
			b := newBox(t, server.Addr(), openSale())
			b.enqueue(20)
			b.settle(b.claim("first", 5), queue.OpConfirm)
			snap := b.snapshot()
			one.cause(t, server.Client())
			reasons := map[string]error{}
			for call, err := range b.everyCall(snap) {
				if err == nil || errors.Is(err, queue.ErrNotReady) {
					continue
				}
				require.True(t, queue.Unavailable(err), "%s: %v", call, err)
				reasons[queue.Reason(err)] = err
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
			_, err := b.Admit(ctx, b.epoch, rate, []queue.Request{ask("late", "late")})
			return err
		},
		"claim": func(ctx context.Context) error { _, err := b.Claim(ctx, "second", 5, long); return err },
		"view":  func(ctx context.Context) error { _, err := b.View(ctx); return err },
		"views": func(ctx context.Context) error {
			_, errs := b.lines.Views(ctx, []string{"sale", "other"})
			return errors.Join(errs...)
		},
		"snapshot": func(ctx context.Context) error { _, err := b.Snapshot(ctx); return err },
		"released": func(ctx context.Context) error { _, _, err := b.ReleasedSince(ctx, snap); return err },
		"look-up":  func(ctx context.Context) error { _, _, err := b.Lookup(ctx, []string{"sale-00001"}); return err },
		"held": func(ctx context.Context) error {
			_, failed := b.lines.HeldBy(ctx, []string{"sale"}, "user-00001")
			return failed["sale"]
		},
	} {
		ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
		errs[name] = call(ctx)
		cancel()
	}
	return errs
}

// askForPassword holds for new connections.
func askForPassword(t *testing.T, admin *redis.Client) {
	run("CONFIG", "SET", "requirepass", "later")(t, admin)
	run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")(t, admin)
}

// breakSaving lets a snapshot fail: a folder has the name of its file.
func breakSaving(t *testing.T, admin *redis.Client) {
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
func keepBusy(t *testing.T, admin *redis.Client) {
	forever := dial(t, admin.Options().Addr)
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
func keepLoading(t *testing.T, admin *redis.Client) {
	require.NoError(t, admin.Do(t.Context(), "DEBUG", "POPULATE", 5000).Err())
	slow := dial(t, admin.Options().Addr)
	var running sync.WaitGroup
	running.Go(func() { _ = slow.Do(context.Background(), "DEBUG", "RELOAD").Err() })
	t.Cleanup(func() {
		_ = slow.Close()
		running.Wait()
	})
	awaitAnswer(t, admin, "LOADING")
}

func awaitAnswer(t *testing.T, admin *redis.Client, code string) {
	t.Helper()
	require.Eventually(t, func() bool { return redis.HasErrorPrefix(admin.Get(t.Context(), "any").Err(), code) },
		20*time.Second, 5*time.Millisecond)
}

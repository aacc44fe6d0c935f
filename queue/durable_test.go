package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
	"sluice/store/redis"
)

// durableLine opens a line on a real Redis that must keep what cfg asks for.
func durableLine(t *testing.T, server *testkit.RedisServer, edit func(*redis.Config)) (*queue.Line, *redis.Durability) {
	t.Helper()
	cfg := redis.DefaultConfig()
	cfg.Mode, cfg.Addrs = redis.ModeSingle, []string{server.Addr()}
	edit(&cfg)
	require.NoError(t, cfg.Validate())
	r, err := redis.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	durability := redis.NewDurability(r, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	startWatch(t, durability)
	lines := queue.NewLines(r.Client, queue.DefaultPrefix).WithDurability(durability)
	line := lines.Of("kept")
	reopen(t, line, 1, queue.Reopened{Stock: 100})
	return line, durability
}

// startWatch lets the durability check Redis until the test ends.
func startWatch(t *testing.T, durability *redis.Durability) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		durability.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// reopen loads a line under an epoch, with what survives in it.
func reopen(t *testing.T, line *queue.Line, epoch int64, with queue.Reopened) {
	t.Helper()
	begun, err := line.Begin(t.Context(), epoch)
	require.NoError(t, err)
	require.True(t, begun)
	settings := queue.Settings{Epoch: epoch, Version: 1, State: "open", StartsAt: time.Now().Add(-time.Hour),
		EndsAt: time.Now().Add(time.Hour), Cap: 100, Limit: 1, Total: 100}
	require.NoError(t, line.Reopen(t.Context(), settings, with))
}

func admitOne(t *testing.T, line *queue.Line, id, user string) (queue.Admission, error) {
	t.Helper()
	view, err := line.View(t.Context())
	if err != nil {
		return queue.Admission{}, err
	}
	got, err := line.Admit(t.Context(), view.Epoch, 1, []queue.Request{{ID: id, User: user, Units: 1,
		Fingerprint: "f"}})
	if err != nil {
		return queue.Admission{}, err
	}
	return got[0], nil
}

func TestLessDurableRedisIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t, "--appendfsync", "everysec")
	cfg := redis.DefaultConfig()
	cfg.Mode, cfg.Addrs, cfg.Durability = redis.ModeSingle, []string{server.Addr()}, redis.DurabilityAlways
	_, err := redis.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, redis.ErrNotDurable)
	require.ErrorContains(t, err, "set appendfsync always")
}

func TestNothingIsAdmittedWhileRedisKeepsLess(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	line, durability := durableLine(t, server, func(c *redis.Config) { c.Durability = redis.DurabilityAlways })
	_, err := admitOne(t, line, "o1", "ann")
	require.NoError(t, err)

	require.NoError(t, server.Client().ConfigSet(t.Context(), "appendfsync", "everysec").Err())
	require.Eventually(t, func() bool { return durability.Check() != nil }, 10*time.Second, 10*time.Millisecond)
	_, err = admitOne(t, line, "o2", "bob")
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.ErrorIs(t, err, redis.ErrNotDurable)

	require.NoError(t, server.Client().ConfigSet(t.Context(), "appendfsync", "always").Err())
	require.Eventually(t, func() bool { return durability.Check() == nil }, 10*time.Second, 10*time.Millisecond)
	got, err := admitOne(t, line, "o2", "bob")
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Ticket.Seq, "the refused request had not reached the line")
}

func TestAnAnswerWaitsForItsReplicas(t *testing.T) {
	t.Parallel()
	master := testkit.Redis(t)
	line, durability := durableLine(t, master, func(c *redis.Config) {
		c.Durability, c.Replicas, c.ReplicaTimeout = redis.DurabilityReplicated, 1, 200*time.Millisecond
	})
	require.ErrorIs(t, durability.Check(), redis.ErrNotDurable, "readiness tells")
	require.Equal(t, redis.DurabilityAlways, durability.Level(), "what it keeps, whatever was asked for")
	id := uuid.NewString()
	_, err := admitOne(t, line, id, "ann")
	require.ErrorIs(t, err, queue.ErrNotReady, "there is no replica")

	host, port := master.Addr()[:len("127.0.0.1")], master.Addr()[len("127.0.0.1:"):]
	replica := testkit.Redis(t, "--replicaof", host, port)
	follow(t, replica)
	_, err = admitOne(t, line, id, "ann")
	require.ErrorIs(t, err, queue.ErrNotReady, "Redis begins a history of its own with its first replica")
	reopen(t, line, 2, queue.Reopened{Stock: 99})
	require.Eventually(t, func() bool {
		got, err := admitOne(t, line, id, "ann")
		return err == nil && got.Err == nil && got.Replayed
	}, 20*time.Second, 50*time.Millisecond, "the same request is answered once the replica has it")
	require.Equal(t, redis.DurabilityReplicated, durability.Level())
	require.NoError(t, durability.Check())
	require.EqualValues(t, 1, replica.Client().LLen(t.Context(), "sluice:{kept/0}:wait").Val())

	replica.Kill()
	_, err = admitOne(t, line, uuid.NewString(), "bob")
	require.ErrorIs(t, err, queue.ErrNotReady)
	// What the owner is told of a cancelled order must not be undone by a server that takes over either.
	require.ErrorIs(t, line.Cancel(t.Context(), id, "ann"), queue.ErrNotReady)
	replica.Start()
	require.Eventually(t, func() bool {
		err := line.Cancel(t.Context(), id, "ann")
		return errors.Is(err, queue.ErrNotWaiting)
	}, 20*time.Second, 50*time.Millisecond, "it was cancelled, which is answered once the replica has it")
	known, _, err := line.Lookup(t.Context(), []string{id})
	require.NoError(t, err)
	require.Equal(t, queue.Cancelled, known[id].State)
}

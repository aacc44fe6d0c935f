package reconcile_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/queue"
)

// after runs a function once, when the first call of a script has been answered.
type after struct {
	second *atomic.Int64 // counts the looks
	then   func()
}

func (a after) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (a after) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" && !goredis.HasErrorPrefix(err, "NOSCRIPT") {
			if a.second.Add(1) == 2 { // the first is one at all lines
				a.then()
			}
		}
		return err
	}
}

func (a after) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// Who saw a line that was missing, and comes to it when another has rebuilt it, leaves it as it is.
func TestALineIsRebuiltOnceForOneLoss(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		c := w.Fill()
		require.NoError(w.T, w.Redis.Del(w.Ctx, orders.Key("meta"), orders.Key("stock")).Err())
		rdb := testkit.ProductClient(w.T, w.Addr)
		late := reconcilerOn(w, rdb)
		var rebuilt int64
		rdb.AddHook(after{new(atomic.Int64), func() {
			require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
			rebuilt = w.View().Epoch
		}})
		require.ErrorIs(w.T, late.Reconcile(w.Ctx), inventory.ErrBusy)
		require.NotZero(w.T, rebuilt)
		require.Equal(w.T, rebuilt, w.View().Epoch)
		require.False(w.T, w.View().Rebuilding)
		require.NoError(w.T, w.Cache.Refresh(w.Ctx))
		w.Clean()
		finishAll(w, c)
	})
}

// stopAt calls do once, before a command is sent.
type stopAt struct {
	command string
	do      func()
}

func (s *stopAt) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (s *stopAt) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() == s.command && s.do != nil {
			do := s.do
			s.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

func (s *stopAt) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// Who saw a line that was being rebuilt, and comes to it when that is done, leaves it as it is.
func TestALineThatIsBeingRebuiltIsNotRebuiltAgain(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		require.NoError(w.T, w.Redis.Del(w.Ctx, orders.Key("meta"), orders.Key("stock")).Err())
		begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
		w.Redis.AddHook(&stopAt{"hscan", func() {
			close(begun)
			<-goOn
		}})
		go func() { done <- w.Reconciler.Reconcile(w.Ctx) }()
		<-begun
		rdb := testkit.ProductClient(w.T, w.Addr)
		late := reconcilerOn(w, rdb)
		rdb.AddHook(after{new(atomic.Int64), func() {
			close(goOn)
			require.NoError(w.T, <-done)
		}})
		require.ErrorIs(w.T, late.Reconcile(w.Ctx), inventory.ErrBusy)
		require.EqualValues(w.T, 2, w.View().Epoch)
		w.Clean()
	})
}

// dieAt cancels a context when a command is about to be sent.
type dieAt struct {
	command string
	die     context.CancelFunc
}

func (d dieAt) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (d dieAt) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() == d.command {
			d.die()
			<-ctx.Done()
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

func (d dieAt) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func TestRebuildThatDiesIsFinishedByAnother(t *testing.T) {
	for _, command := range []string{"hscan", "lrange", "hget"} {
		t.Run(command, func(t *testing.T) {
			orders.EachEmpty(t, func(w *orders.World) {
				c := w.Fill()
				rdb := testkit.ProductClient(w.T, w.Addr)
				dying := reconcilerOn(w, rdb)
				ctx, die := context.WithCancel(w.Ctx)
				rdb.AddHook(dieAt{command: command, die: die})
				require.Error(w.T, dying.Rebuild(ctx, orders.Sale))
				require.True(w.T, w.View().Rebuilding)
				_, err := w.Ask("ann", 1)
				require.ErrorIs(w.T, err, queue.ErrNotReady)

				other := testkit.NewClock(w.Clock.Now())
				heir := w.OtherReconciler(other)
				require.ErrorIs(w.T, heir.Reconcile(w.Ctx), inventory.ErrBusy)
				other.Advance(reconcile.RebuildLease - time.Millisecond)
				require.ErrorIs(w.T, heir.Reconcile(w.Ctx), inventory.ErrBusy)
				other.Advance(time.Millisecond)
				require.NoError(w.T, heir.Reconcile(w.Ctx))
				require.NoError(w.T, w.Cache.Refresh(w.Ctx))
				require.False(w.T, w.View().Rebuilding)
				require.EqualValues(w.T, 81, w.View().Stock)
				w.Clean()
				finishAll(w, c)
			})
		})
	}
}

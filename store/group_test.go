package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/store"
)

// crowd lets several transactions wait for SQLite's writer and then run.
type crowd struct {
	t       *testing.T
	db      *store.DB
	release chan struct{}
	ended   sync.WaitGroup
	errs    map[string]error
	mu      sync.Mutex
}

// lite is a migrated SQLite.
func lite(t *testing.T) *store.DB {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = store.SQLite, filepath.Join(t.TempDir(), "group.db")
	db := open(t, cfg)
	_, err := db.Migrate(t.Context())
	require.NoError(t, err)
	return db
}

// gather holds the writer until release is closed.
func gather(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{t: t, db: lite(t), release: make(chan struct{}), errs: map[string]error{}}
	began := make(chan struct{})
	c.run(t.Context(), "first", func(*gorm.DB) error {
		close(began)
		<-c.release
		return nil
	})
	<-began
	return c
}

func (c *crowd) run(ctx context.Context, name string, fn func(tx *gorm.DB) error) {
	c.ended.Go(func() {
		var err error
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v", v)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.errs[name] = err
		}()
		err = c.db.Tx(ctx, fn)
	})
}

// waiting returns when n transactions wait for the writer.
func (c *crowd) waiting(n int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return store.Waiting(c.db) == n }, 20*time.Second, time.Millisecond)
}

func (c *crowd) end() {
	close(c.release)
	c.ended.Wait()
}

func (c *crowd) orders() (ids []string) {
	c.t.Helper()
	require.NoError(c.t, c.db.Read.Model(&order{}).Order("id").Pluck("id", &ids).Error)
	return ids
}

func insert(n int) func(tx *gorm.DB) error {
	return func(tx *gorm.DB) error {
		row := newOrder(n)
		return tx.Create(&row).Error
	}
}

func TestThoseWhoWaitForTheWriterCommitTogether(t *testing.T) {
	t.Parallel()
	c := gather(t)
	var seen [4]int64
	for n := range 4 {
		c.run(t.Context(), fmt.Sprint(n), func(tx *gorm.DB) error {
			if err := insert(n)(tx); err != nil {
				return err
			}
			return tx.Model(&order{}).Count(&seen[n]).Error
		})
		c.waiting(n + 1)
	}
	c.run(t.Context(), "reader", func(*gorm.DB) error {
		var n int64
		err := c.db.Read.Model(&order{}).Count(&n).Error
		if n != 0 {
			err = fmt.Errorf("%d rows are visible outside before the group has committed", n)
		}
		return err
	})
	c.waiting(5)
	c.end()
	for name, err := range c.errs {
		require.NoError(t, err, name)
	}
	require.Equal(t, [4]int64{1, 2, 3, 4}, seen, "in the order in which they came")
	require.Len(t, c.orders(), 4)
}

// One that fails, or panics, takes nobody with it, and gets its own error on its own goroutine.
func TestOneOfAGroupFailsAlone(t *testing.T) {
	t.Parallel()
	bad := errors.New("mine alone")
	c := gather(t)
	c.run(t.Context(), "good", insert(1))
	c.waiting(1)
	c.run(t.Context(), "bad", func(tx *gorm.DB) error {
		if err := insert(2)(tx); err != nil {
			return err
		}
		return bad
	})
	c.waiting(2)
	c.run(t.Context(), "panic", func(tx *gorm.DB) error {
		if err := insert(3)(tx); err != nil {
			return err
		}
		panic("mine")
	})
	c.waiting(3)
	c.run(t.Context(), "late", insert(4))
	c.waiting(4)
	c.end()
	require.NoError(t, c.errs["good"])
	require.ErrorIs(t, c.errs["bad"], bad)
	require.ErrorContains(t, c.errs["panic"], "panic: mine")
	require.NoError(t, c.errs["late"])
	require.Equal(t, []string{newOrder(1).ID, newOrder(4).ID}, c.orders())
}

func TestWhoeverLosesPatienceInTheQueueDoesNothing(t *testing.T) {
	t.Parallel()
	c := gather(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.run(ctx, "gone", insert(1))
	c.waiting(1)
	c.run(t.Context(), "stays", insert(2))
	c.waiting(2)
	cancel()
	c.waiting(1)
	c.end()
	require.ErrorIs(t, c.errs["gone"], context.Canceled)
	require.NoError(t, c.errs["stays"])
	require.Equal(t, []string{newOrder(2).ID}, c.orders())
}

// Many at once, some of which fail and some of which give up: what is reported is what is stored.
func TestGroupsUnderAStorm(t *testing.T) {
	t.Parallel()
	db := lite(t)
	const writers, each = 16, 20
	var mu sync.Mutex
	want := map[string]bool{}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				n := w*each + i
				ctx, cancel := context.WithCancel(t.Context())
				if n%7 == 0 {
					go cancel()
				}
				err := db.Tx(ctx, func(tx *gorm.DB) error {
					if err := insert(n)(tx); err != nil || n%11 == 0 {
						return errors.Join(err, errors.New("refused"))
					}
					return nil
				})
				cancel()
				if err == nil {
					mu.Lock()
					want[newOrder(n).ID] = true
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	var ids []string
	require.NoError(t, db.Read.Model(&order{}).Pluck("id", &ids).Error)
	require.Len(t, ids, len(want))
	for _, id := range ids {
		require.True(t, want[id], id)
	}
	require.Greater(t, len(want), writers*each/2)
}

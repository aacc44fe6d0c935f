package model_test

import (
	"context"
	"crypto/sha1" // #nosec G505 -- Redis names scripts so
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// actor is a part of the product that runs until its next call to Redis of a given kind and halts there. So a test can
// put steps of others between two of its own.
type actor struct {
	cancel context.CancelFunc
	halted chan struct{}
	resume chan struct{}
	done   chan struct{}
	err    error // once done is closed

	mu    sync.Mutex
	until []string
}

type actorKey struct{}

// soon is longer than any step takes.
const soon = time.Minute

// act starts an actor, which halts before its first step.
func act(ctx context.Context, what func(ctx context.Context) error) *actor {
	a := &actor{halted: make(chan struct{}), resume: make(chan struct{}), done: make(chan struct{})}
	ctx, a.cancel = context.WithCancel(context.WithValue(ctx, actorKey{}, a))
	go func() {
		defer close(a.done)
		select {
		case <-a.resume:
			a.err = what(ctx)
		case <-ctx.Done():
			a.err = ctx.Err()
		}
	}()
	return a
}

// run lets the actor go on until one of these calls, or to its end. It reports whether the actor halted. It panics if
// the actor is stuck.
func (a *actor) run(until ...string) bool {
	a.mu.Lock()
	a.until = until
	a.mu.Unlock()
	a.resume <- struct{}{}
	select {
	case <-a.halted:
		return true
	case <-a.done:
		return false
	case <-time.After(soon):
		panic("an actor neither goes on nor ends: it waits for another, or makes no such call: " + fmt.Sprint(until))
	}
}

// die ends the actor where it halts, as if its process had died.
func (a *actor) die() {
	a.cancel()
	<-a.done
}

// pass halts the actor that makes a call, if it shall halt there.
func pass(ctx context.Context, call string) error {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return nil
	}
	a.mu.Lock()
	halt := slices.Contains(a.until, call)
	if halt {
		a.until = nil
	}
	a.mu.Unlock()
	if !halt {
		return nil
	}
	a.halted <- struct{}{}
	select {
	case <-a.resume:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// calls is a hook of a Redis client that halts actors before and after their calls. It learns the names of scripts from
// their header, when their text is sent.
type calls struct {
	mu    sync.Mutex
	names map[string]string // by digest
}

var header = regexp.MustCompile(`(?m)^-- (\w+): `)

func (c *calls) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *calls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		name := c.name(cmd)
		if err := pass(ctx, "before "+name); err != nil {
			cmd.SetErr(err)
			return err
		}
		if err := pass(ctx, "before any"); err != nil {
			cmd.SetErr(err)
			return err
		}
		err := next(ctx, cmd)
		if err == nil {
			err = pass(ctx, "after "+name)
		}
		return err
	}
}

func (c *calls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := pass(ctx, "before any"); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// name returns the name of the script that a command runs, or of the command.
func (c *calls) name(cmd redis.Cmder) string {
	args := cmd.Args()
	if len(args) < 2 || (cmd.Name() != "eval" && cmd.Name() != "evalsha") {
		return cmd.Name()
	}
	text := fmt.Sprint(args[1])
	c.mu.Lock()
	defer c.mu.Unlock()
	if cmd.Name() == "evalsha" {
		return c.names[text]
	}
	named := header.FindStringSubmatch(text)
	if named == nil {
		return ""
	}
	sum := sha1.Sum([]byte(text)) // #nosec G401 -- Redis names scripts so
	c.names[hex.EncodeToString(sum[:])] = named[1]
	return named[1]
}

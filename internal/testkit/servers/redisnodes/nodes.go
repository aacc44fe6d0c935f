package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/internal/testkit/servers"
)

const (
	nodeTimeout  = time.Second      // one command to one node; a hung one does not answer
	nodePatience = 40 * time.Second // for nodes to agree on who is what, on a busy machine
	nodeLook     = 50 * time.Millisecond
)

// Ask runs do with a client of one server that never repeats a command.
// A server that does not answer within a second is an error.
func Ask(s *servers.Server, do func(*redis.Client) error) error {
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr(), MaxRetries: -1, PoolSize: 1, DialerRetries: 1, DisableIdentity: true,
		DialTimeout: nodeTimeout, ReadTimeout: nodeTimeout, WriteTimeout: nodeTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return errors.Join(do(client), client.Close())
}

// tell sends one command to a server.
func tell(ctx context.Context, s *servers.Server, args ...any) error {
	return Ask(s, func(c *redis.Client) error { return c.Do(ctx, args...).Err() })
}

// infoOf returns a section of INFO as a map.
func infoOf(ctx context.Context, s *servers.Server, section string) (map[string]string, error) {
	found := map[string]string{}
	err := Ask(s, func(c *redis.Client) error {
		text, err := c.Info(ctx, section).Result()
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				found[name] = value
			}
		}
		return err
	})
	return found, err
}

// CutReplica ends a replica's link to its master and keeps it from coming back. The replica
// presents a password that its master has not. Everything else of the replica works on. MendReplica
// undoes it.
func CutReplica(ctx context.Context, s *servers.Server) error {
	if err := tell(ctx, s, "CONFIG", "SET", "masterauth", "not-the-password"); err != nil {
		return fmt.Errorf("cut %s from its master: %w", s.Addr(), err)
	}
	if err := tell(ctx, s, "CLIENT", "KILL", "TYPE", "master"); err != nil {
		return fmt.Errorf("cut %s from its master: %w", s.Addr(), err)
	}
	return poll(ctx, func() error {
		info, err := infoOf(ctx, s, "replication")
		if err == nil && info["master_link_status"] == "up" {
			err = fmt.Errorf("the link of %s to its master is still up", s.Addr())
		}
		return err
	})
}

// MendReplica lets a replica reach its master again.
func MendReplica(ctx context.Context, s *servers.Server) error {
	return tell(ctx, s, "CONFIG", "SET", "masterauth", "")
}

// AwaitReplicated returns when every replica has all that its master had when it was called.
func AwaitReplicated(ctx context.Context, master *servers.Server, replicas []*servers.Server) error {
	info, err := infoOf(ctx, master, "replication")
	if err != nil {
		return err
	}
	have, err := strconv.ParseInt(info["master_repl_offset"], 10, 64)
	if err != nil {
		return fmt.Errorf("read the offset of %s: %w", master.Addr(), err)
	}
	for _, s := range replicas {
		err := poll(ctx, func() error {
			info, err := infoOf(ctx, s, "replication")
			if err != nil {
				return err
			}
			if got, err := strconv.ParseInt(info["slave_repl_offset"], 10, 64); err != nil || got < have {
				return fmt.Errorf("%s has %q of %d bytes of its master", s.Addr(), info["slave_repl_offset"], have)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// follows returns nil when a server is a replica in step with the master at port.
func follows(ctx context.Context, s *servers.Server, port int) error {
	info, err := infoOf(ctx, s, "replication")
	if err != nil {
		return err
	}
	role, of, link := info["role"], info["master_port"], info["master_link_status"]
	if role != "slave" || of != fmt.Sprint(port) || link != "up" {
		return fmt.Errorf("%s is a %s of %s, link %q", s.Addr(), role, of, link)
	}
	return nil
}

// poll asks until there is no error any more, and returns the last one when
// patience or ctx ends.
func poll(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	tick := time.NewTicker(nodeLook)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// together starts n servers at once. What was started is returned even with an error.
func together(n int, start func(i int) (*servers.Server, error)) ([]*servers.Server, error) {
	started, errs := make([]*servers.Server, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { started[i], errs[i] = start(i) })
	}
	wg.Wait()
	var all []*servers.Server
	for _, s := range started {
		if s != nil {
			all = append(all, s)
		}
	}
	return all, errors.Join(errs...)
}

// closeAll closes servers, also those that are paused or down.
func closeAll(all []*servers.Server) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

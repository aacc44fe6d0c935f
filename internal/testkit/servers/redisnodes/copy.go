package redisnodes

import (
	"context"
	"errors"
	"fmt"

	"sluice/internal/testkit/servers"
)

// Copy starts a server with the data that another one has now, for the
// caller to close.
func Copy(ctx context.Context, of *servers.Server) (*servers.Server, error) {
	s, err := servers.Redis(ctx, "--repl-diskless-sync-delay", "0")
	if err != nil {
		return nil, err
	}
	if err := TakeData(ctx, s, of); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// TakeData makes a running server forget its data and take another's. It becomes the other's
// replica and then a master again.
func TakeData(ctx context.Context, s, of *servers.Server) error {
	// Or the other one waits for more replicas before it sends anything.
	err := tell(ctx, of, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	if err == nil {
		err = tell(ctx, s, "REPLICAOF", "127.0.0.1", of.Port())
	}
	if err == nil {
		err = poll(ctx, func() error { return follows(ctx, s, of.Port()) })
	}
	if err == nil {
		err = tell(ctx, s, "REPLICAOF", "NO", "ONE")
	}
	if err != nil {
		return fmt.Errorf("give %s the data of %s: %w", s.Addr(), of.Addr(), err)
	}
	return nil
}

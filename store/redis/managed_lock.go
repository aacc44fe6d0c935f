package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// dirLock locks a state folder for one managed server. The file stays locked while this process or the server, which
// inherits it, has it open.
type dirLock struct{ file *os.File }

// lockOwner is the content of the lock file. It tells other processes who has the lock.
type lockOwner struct {
	PID      int    `json:"pid"`
	Host     string `json:"host"`
	Network  string `json:"network"`
	Address  string `json:"address"`
	Password string `json:"password,omitempty"`
}

// orphanLimit bounds the wait for the server of a dead process to end.
const orphanLimit = 5 * time.Second

// lockDir locks the folder. If its owner died and left a server behind, lockDir first ends that server. A folder that a
// live process uses is an error.
func lockDir(ctx context.Context, dir string) (*dirLock, error) {
	// #nosec G304 -- the operator chooses redis.dir
	file, err := os.OpenFile(filepath.Join(dir, "sluice.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, orphanLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for asked := false; ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return &dirLock{file: file}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
		}
		owner := readOwner(file)
		orphan := owner.isDead()
		if orphan && !asked {
			asked = true
			owner.shutdown(ctx)
		}
		select {
		case <-tick.C:
			if orphan {
				continue
			}
		case <-ctx.Done():
		}
		return nil, errors.Join(
			fmt.Errorf("the folder is in use by process %d on %s: stop it, or set redis.dir to another folder",
				owner.PID, owner.Host), file.Close())
	}
}

func readOwner(file *os.File) lockOwner {
	var owner lockOwner
	buf := make([]byte, 4096)
	n, _ := file.ReadAt(buf, 0)
	if json.Unmarshal(buf[:n], &owner) != nil {
		return lockOwner{}
	}
	return owner
}

// isDead reports whether the owner ran on this host and has ended. In another container its process number would mean
// nothing.
func (o lockOwner) isDead() bool {
	host, err := os.Hostname()
	return err == nil && o.PID > 0 && o.Host == host && errors.Is(syscall.Kill(o.PID, 0), syscall.ESRCH)
}

// shutdown asks the server at the owner's address to end. The lock is free when it has.
func (o lockOwner) shutdown(ctx context.Context) {
	client := goredis.NewClient(&goredis.Options{
		Network: o.Network, Addr: o.Address, Password: o.Password,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second, DisableIdentity: true,
	})
	defer client.Close() //nolint:errcheck // the connection is of no more use
	client.Shutdown(ctx)
}

func (l *dirLock) write(network, address, password string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	text, err := json.Marshal(lockOwner{
		PID: os.Getpid(), Host: host, Network: network, Address: address, Password: password,
	})
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(text, 0)
	return err
}

// release unlocks the folder. The file stays, because without it two processes could lock two files of the same name.
func (l *dirLock) release() error { return l.file.Close() }

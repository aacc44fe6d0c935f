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

// dirLock keeps a state folder for one managed server. The file is locked by
// every process that holds it open: ours and the server that inherits it.
type dirLock struct{ file *os.File }

// lockOwner is the content of the lock file, for whoever finds it taken.
type lockOwner struct {
	PID      int    `json:"pid"`
	Host     string `json:"host"`
	Network  string `json:"network"`
	Address  string `json:"address"`
	Password string `json:"password,omitempty"`
}

// orphanLimit bounds the wait for the server of a dead process to end.
const orphanLimit = 5 * time.Second

// lockDir takes the folder. When its owner died and left a server behind, that
// server is told to end first; a folder in use by a live process is refused.
func lockDir(ctx context.Context, dir string) (*dirLock, error) {
	// #nosec G304 -- redis.dir is the operator's to name
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

// isDead tells whether the owner ran on this host and is gone. Elsewhere, for
// example in another container, its process number says nothing.
func (o lockOwner) isDead() bool {
	host, err := os.Hostname()
	return err == nil && o.PID > 0 && o.Host == host && errors.Is(syscall.Kill(o.PID, 0), syscall.ESRCH)
}

// shutdown asks the server at the owner's address to end; whether it did shows
// at the lock.
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

// release gives the folder up. The file stays: removing it would let two
// processes lock two files of the same name.
func (l *dirLock) release() error { return l.file.Close() }

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// fillers place orders at the same time when speed is not what is measured.
const fillers = 64

// Fill places all orders of the file and returns where each can be looked up. Anything but 202 is an error.
func (s *System) Fill(ctx context.Context, n *Node, orders Requests) ([]string, error) {
	f, err := os.Open(orders.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	paths := make([]string, orders.Count)
	var next atomic.Int64
	var workers sync.WaitGroup
	errs := make(chan error, fillers)
	for range fillers {
		workers.Go(func() {
			if err := fillFrom(ctx, n.HTTP, f, orders.Size, &next, paths); err != nil {
				next.Store(int64(orders.Count)) // the others end as well
				errs <- err
			}
		})
	}
	workers.Wait()
	select {
	case err := <-errs:
		return nil, fmt.Errorf("fill the line: %w", err)
	default:
		return paths, nil
	}
}

// fillFrom is one of the fillers, with a connection of its own.
func fillFrom(ctx context.Context, addr string, f *os.File, size int, next *atomic.Int64, paths []string) error {
	c := &Caller{Addr: addr}
	defer c.Close()
	request := make([]byte, size)
	for ctx.Err() == nil {
		at := next.Add(1) - 1
		if at >= int64(len(paths)) {
			return nil
		}
		if _, err := f.ReadAt(request, at*int64(size)); err != nil {
			return err
		}
		a, err := c.Do(ctx, request)
		if err != nil {
			return err
		}
		if paths[at], err = pathOf(a); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pathOf is where an accepted order can be looked up.
func pathOf(a Answer) (string, error) {
	var said struct{ Links struct{ Self string } }
	if a.Status != 202 {
		return "", Refuse("an order was answered with %d: %s", a.Status, a.Body)
	}
	if err := json.Unmarshal(a.Body, &said); err != nil || said.Links.Self == "" {
		return "", Refuse("an accepted order names no place to look it up: %s", a.Body)
	}
	return said.Links.Self, nil
}

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// fillers is how many goroutines place orders when speed is not measured.
const fillers = 64

// Fill places all orders of the file and returns the path of each. Any answer but 202 is an error.
func (s *System) Fill(ctx context.Context, n *Node, orders Requests) ([]string, error) {
	f, err := os.Open(orders.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	paths := make([]string, orders.Count)
	filling := fill{addr: n.HTTP, file: f, size: orders.Size, paths: paths}
	var workers sync.WaitGroup
	errs := make(chan error, fillers)
	for range fillers {
		workers.Go(func() {
			if err := filling.run(ctx); err != nil {
				filling.next.Store(int64(orders.Count)) // makes the others end, too
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

// fill is the shared state of the fillers.
type fill struct {
	addr  string
	file  *os.File // of requests of this size
	size  int
	next  atomic.Int64 // index of the next request
	paths []string     // path of each order
}

// run runs one filler, with its own connection.
func (f *fill) run(ctx context.Context) error {
	c := &Caller{Addr: f.addr}
	defer c.Close()
	request := make([]byte, f.size)
	for ctx.Err() == nil {
		at := f.next.Add(1) - 1
		if at >= int64(len(f.paths)) {
			return nil
		}
		if _, err := f.file.ReadAt(request, at*int64(f.size)); err != nil {
			return err
		}
		a, err := c.Do(ctx, request)
		if err != nil {
			return err
		}
		if f.paths[at], err = pathOf(a); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pathOf returns the path of an accepted order.
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

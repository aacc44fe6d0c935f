package yardstick

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
)

// asynqLook is how often asynq looks for tasks that are due; its own default is five seconds.
const asynqLook = 100 * time.Millisecond

// AsynqMessages enqueues messages for the next second, and calls a receiver for each. The time counts from the first
// that is enqueued to the last that is answered.
func (j Job) AsynqMessages(ctx context.Context, redis, url string) (Spent, error) {
	opt := asynq.RedisClientOpt{Addr: redis}
	run := &messagesRun{url: url, left: int64(j.Orders), done: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: j.Workers}}}
	log.SetOutput(io.Discard)
	server := asynq.NewServer(opt, asynq.Config{Concurrency: j.Workers, LogLevel: asynq.FatalLevel,
		DelayedTaskCheckInterval: asynqLook})
	if err := server.Start(asynq.HandlerFunc(run.handle)); err != nil {
		return Spent{}, err
	}
	defer server.Shutdown()
	running := j.start()
	if err := enqueueMessages(ctx, opt, j.Orders); err != nil {
		return Spent{}, err
	}
	select {
	case <-run.done:
		return running.stop(), nil
	case <-ctx.Done():
		return Spent{}, ctx.Err()
	}
}

// enqueueMessages adds one task at a time on many connections: asynq has no call for several.
func enqueueMessages(ctx context.Context, opt asynq.RedisClientOpt, messages int) error {
	client := asynq.NewClient(opt)
	defer client.Close()
	const producers = 32
	due := time.Now().Truncate(time.Second).Add(time.Second)
	var next atomic.Int64
	var workers sync.WaitGroup
	errs := make(chan error, producers)
	for range producers {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(messages); n = next.Add(1) {
				body := strconv.AppendInt(nil, due.UnixNano(), 10)
				_, err := client.EnqueueContext(ctx, asynq.NewTask("message", body), asynq.ProcessAt(due),
					asynq.TaskID(strconv.FormatInt(n, 10)))
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	return <-errs
}

// messagesRun counts down the messages that nobody has answered.
type messagesRun struct {
	url    string
	client *http.Client
	left   int64
	done   chan struct{}
}

func (r *messagesRun) handle(ctx context.Context, t *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(t.Payload()))
	if err != nil {
		return err
	}
	req.Header.Set("Idempotency-Key", id)
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver answered %d", resp.StatusCode)
	}
	if atomic.AddInt64(&r.left, -1) == 0 {
		close(r.done)
	}
	return nil
}

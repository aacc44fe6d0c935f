package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/notify/webhook"
)

const (
	drainLimit    = 16 << 10  // bytes of an answer that are read, so that its connection can be used again
	maxRetryAfter = time.Hour // the longest wait that a receiver can ask for
)

// target is a subscription as it was when its messages were claimed, with the signer of its calls.
type target struct {
	delay.Subscription
	signer *webhook.Signer
}

func newTarget(sub delay.Subscription, now time.Time) (*target, error) {
	signer, err := webhook.NewSigner(sub.Secrets(now)...)
	return &target{Subscription: sub, signer: signer}, err
}

// caller delivers one message at a time over HTTP. Safe for concurrent use.
type caller struct {
	client  *http.Client
	longest time.Duration // of one call, even if an older topic allows more: the lease must outlive it
	jitter  float64
	now     func() time.Time
}

// newCaller returns a caller that leaves open as many idle connections to a receiver as a subscription may have calls.
// Slots bound the calls, so connections have no bound of their own. With a bound by host, one that hangs would use up
// the attempts of another at that host.
func newCaller(cfg delay.Config, now func() time.Time) *caller {
	client := webhook.GuardedClient(cfg.MaxTimeout(), cfg.Workers, cfg.AllowPrivate)
	client.Timeout = 0 // each call has its topic's timeout; a second timer would only cost time
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport.MaxIdleConnsPerHost = cfg.PerTopic
	}
	return &caller{client: client, longest: cfg.MaxTimeout(), jitter: cfg.Jitter, now: now}
}

// deliver calls the receiver once and says what to do with the message. When ctx ends during the call, the message is
// handed back uncounted.
func (c *caller) deliver(ctx context.Context, t *target, m message.Claimed) message.Outcome {
	asked, final, err := c.call(ctx, t, m)
	switch {
	case err == nil:
		return m.Delivered()
	case ctx.Err() != nil:
		return m.Back()
	case final:
		return m.Dead(err.Error())
	}
	return c.failedOutcome(t, m, asked, err)
}

// failedOutcome returns what to store after a failed call: another attempt, or death after the last. The wait is the
// subscription's, or asked if the receiver asked for a longer one.
func (c *caller) failedOutcome(t *target, m message.Claimed, asked time.Duration, err error) message.Outcome {
	if m.Attempt > t.Retries {
		return m.Dead(err.Error())
	}
	wait := time.Duration(float64(t.Wait(m.Attempt)) * (1 + c.jitter*rand.Float64())) // #nosec G404 -- jitter
	return m.Retry(max(wait, asked), err.Error())
}

// call sends the message and returns nil when the receiver answered 2xx. Otherwise asked is the wait that the receiver
// asked for, 0 for none. final says that the receiver wants no further attempt.
func (c *caller) call(ctx context.Context, t *target, m message.Claimed) (asked time.Duration, final bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(t.Timeout(), c.longest))
	defer cancel()
	req, err := c.request(ctx, t, m)
	if err != nil {
		return 0, false, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, false, describe(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, drainLimit) // only the status counts
	if resp.StatusCode/100 == 2 {
		return 0, false, nil
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		asked = c.retryAfter(resp.Header.Get("Retry-After"))
	}
	return asked, resp.StatusCode == http.StatusGone, fmt.Errorf("the receiver answered %d", resp.StatusCode)
}

// request returns the call. By GET the message is in the query, and the signature is of its body there.
func (c *caller) request(ctx context.Context, t *target, m message.Claimed) (*http.Request, error) {
	address, body := t.URL, io.Reader(bytes.NewReader(m.Body))
	if t.Method == http.MethodGet {
		in, err := url.Parse(t.URL)
		if err != nil {
			return nil, err
		}
		query := in.Query()
		for name, value := range map[string]string{"id": m.ID, "topic": t.Topic, "attempt": strconv.Itoa(m.Attempt),
			"body": string(m.Body)} {
			query.Set(name, value)
		}
		in.RawQuery = query.Encode()
		address, body = in.String(), http.NoBody
	}
	req, err := http.NewRequestWithContext(ctx, t.Method, address, body)
	if err != nil {
		return nil, err
	}
	id := t.Topic + ":" + m.ID
	if t.Method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set("User-Agent", "Sluice")
	req.Header.Set("Sluice-Topic", t.Topic)
	req.Header.Set("Sluice-Attempt", strconv.Itoa(m.Attempt))
	if !t.IsDefault() {
		req.Header.Set("Sluice-Subscription", t.Name)
	}
	t.signer.Sign(req.Header, id, c.now(), m.Body)
	return req, nil
}

// describe says in few words why there was no answer. It leaves out the address, which may contain a key.
func describe(err error) error {
	var network net.Error
	switch {
	case errors.Is(err, webhook.ErrPrivateAddress):
		return fmt.Errorf("%w: delay.allow_private permits it", webhook.ErrPrivateAddress)
	case errors.As(err, &network) && network.Timeout():
		return errors.New("no answer in time")
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Errorf("no answer: %w", err)
}

// retryAfter reads a Retry-After header, seconds or a date. It returns 0 when it is neither or has passed.
func (c *caller) retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(c.now()), 0), maxRetryAfter)
	}
	return 0
}

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

const drainLimit = 16 << 10 // bytes of an answer that are read, so that its connection can be used again

// target is a subscription as it was when its messages were claimed, with the signer of its calls.
type target struct {
	delay.Subscription
	signer   *webhook.Signer
	receiver *receiver
}

func newTarget(sub delay.Subscription, r *receiver, now time.Time) (*target, error) {
	signer, err := webhook.NewSigner(sub.Secrets(now)...)
	return &target{Subscription: sub, signer: signer, receiver: r}, err
}

// caller delivers one message at a time over HTTP. Safe for concurrent use.
type caller struct {
	client  *http.Client
	longest time.Duration // of one call, even if an older topic allows more: the lease must outlive it
	jitter  float64
	pause   time.Duration // of a receiver that failed
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
	return &caller{client: client, longest: cfg.MaxTimeout(), jitter: cfg.Jitter, pause: cfg.Pause,
		now: now}
}

// answerKind says what an attempt tells of the message and of its receiver.
type answerKind int

const (
	answerTaken   answerKind = iota // the message is done with
	answerFinal                     // the receiver wants no further attempt
	answerRefused                   // it is about this message: others may be taken
	answerFailed                    // the receiver as a whole is at fault
	answerWait                      // it asks to be left alone
	answerCutOff                    // this process stops
)

// answer is what came of one attempt.
type answer struct {
	kind answerKind
	wait time.Duration // that the receiver asked for
	err  error         // nil when the message was taken
}

// deliver calls the receiver once and says what to do with the message. When ctx ends during the call, or the receiver
// is left alone, the message is handed back uncounted.
func (c *caller) deliver(ctx context.Context, t *target, m message.Claimed) message.Outcome {
	ended, may := t.receiver.begin()
	if !may {
		return m.Back()
	}
	a := answer{kind: answerCutOff} // a panic is ours
	defer func() { ended(m.ID, a) }()
	a = c.call(ctx, t, m)
	ended(m.ID, a)
	ended = func(string, answer) {}
	return c.outcome(t, m, a)
}

// outcome returns what to do with a message after an attempt.
func (c *caller) outcome(t *target, m message.Claimed, a answer) message.Outcome {
	switch {
	case a.kind == answerTaken:
		return m.Delivered()
	case a.kind == answerCutOff:
		return m.Back()
	case a.kind == answerFinal:
		return m.Dead(a.err.Error())
	case a.kind == answerWait && t.receiver.excuses(a.kind):
		return m.PutOff(a.wait, a.err.Error())
	case a.kind == answerFailed && t.receiver.excuses(a.kind):
		// It loses its place. Should it be at fault after all, the next one finds the receiver well.
		return m.PutOff(2*c.pause, a.err.Error())
	}
	return c.failedOutcome(t, m, a.wait, a.err)
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

// call sends the message and tells how the receiver answered.
func (c *caller) call(ctx context.Context, t *target, m message.Claimed) answer {
	work, cancel := context.WithTimeout(ctx, min(t.Timeout(), c.longest))
	defer cancel()
	req, err := c.request(work, t, m)
	if err != nil {
		return answer{kind: answerRefused, err: err}
	}
	resp, err := c.client.Do(req)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return answer{kind: answerCutOff}
	default:
		return answer{kind: answerFailed, err: describe(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, drainLimit) // only the status counts
	return c.classify(resp)
}

// classify reads a status. 410, 413 and 422 end the message; 400, 414 and 431 are about it alone: by GET it is in the
// address. 429, and 503 with Retry-After, ask for a wait. All others are faults of the receiver.
func (c *caller) classify(resp *http.Response) answer {
	wait := webhook.RetryAfter(resp.Header.Get("Retry-After"), c.now())
	err := fmt.Errorf("the receiver answered %d", resp.StatusCode)
	switch status := resp.StatusCode; {
	case status/100 == 2:
		return answer{kind: answerTaken}
	case status == http.StatusGone, status == http.StatusRequestEntityTooLarge,
		status == http.StatusUnprocessableEntity:
		return answer{kind: answerFinal, err: err}
	case status == http.StatusBadRequest, status == http.StatusRequestURITooLong,
		status == http.StatusRequestHeaderFieldsTooLarge:
		return answer{kind: answerRefused, err: err}
	case status == http.StatusTooManyRequests && wait == 0:
		return answer{kind: answerWait, wait: c.pause, err: err}
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && wait > 0:
		return answer{kind: answerWait, wait: wait, err: err}
	}
	return answer{kind: answerFailed, err: err}
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
	m.About.SetHeaders(req.Header)
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

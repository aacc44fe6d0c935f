package push

import (
	"context"
	"net/http"
	"time"

	"sluice/delay"
)

// What the tests of this package need to see from outside.
const MaxRetryAfter = maxRetryAfter

// CallBy lets calls go through another transport.
func (d *Dispatcher) CallBy(transport http.RoundTripper) { d.caller.client.Transport = transport }

// MaintainAll is one turn of the maintenance of subscriptions.
func (d *Dispatcher) MaintainAll(ctx context.Context, subs []delay.Subscription) {
	d.maintainAll(ctx, subs)
}

// RetryAfter reads a Retry-After header now.
func RetryAfter(text string) time.Duration { return (&caller{now: time.Now}).retryAfter(text) }

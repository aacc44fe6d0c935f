package push

import (
	"context"
	"net/http"

	"sluice/delay"
)

// What the tests of this package need to see from outside.

// CallBy lets calls go through another transport.
func (d *Dispatcher) CallBy(transport http.RoundTripper) { d.caller.client.Transport = transport }

// MaintainAll is one turn of the maintenance of subscriptions.
func (d *Dispatcher) MaintainAll(ctx context.Context, subs []delay.Subscription) {
	d.maintainAll(ctx, subs)
}

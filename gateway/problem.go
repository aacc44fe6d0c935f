package gateway

import (
	"errors"
	"fmt"
	"time"

	"sluice/api"
	"sluice/gateway/ratelimit"
	"sluice/internal/invalid"
	"sluice/queue"
)

// limited returns the 429 for a refusal.
func limited(d ratelimit.Decision) api.Problem {
	p := api.NewProblem(api.CodeRateLimited, fmt.Sprintf(
		"The %s limit is %d requests in %d s; wait for Retry-After.", d.Policy, d.Limit, d.Window))
	p.RetryAfter = d.RetryAfter
	p.RateLimitPolicy, p.RateLimit = d.Headers()
	return p
}

// problemOf returns the problem document of an error.
func (g *Gateway) problemOf(err error) api.Problem {
	code := api.CodeOf(err)
	p := api.NewProblem(code, api.DetailOf(code, err))
	p.RetryAfter = api.RetryAfter(g.cfg.RetryAfter, g.cfg.RetrySpread)
	var notStarted queue.NotStartedError
	var limit queue.LimitError
	var invalid invalid.Error
	switch {
	case errors.As(err, &notStarted) && !notStarted.StartsAt.IsZero():
		p.StartsAt = notStarted.StartsAt.UTC().Format(api.TimeFormat)
		p.RetryAfter = max(notStarted.StartsAt.Sub(g.SaleCache.Now()), time.Second)
	case errors.As(err, &limit):
		p.OrderID = limit.OrderID
	case errors.As(err, &invalid):
		p.Errors = api.FieldErrors(invalid)
	case code == api.CodeQueueFull:
		p.BusyURL = g.cfg.BusyURL
	}
	return p
}

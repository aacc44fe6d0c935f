package work

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/pull"
)

const (
	maxReceiveBytes = 4 << 10
	// maxLeasesBytes holds 1,000 leases of the longest form.
	maxLeasesBytes = 512 << 10
	// crowdedRetry and crowdedSpread say when a receiver that found no place to wait comes back.
	crowdedRetry  = time.Second
	crowdedSpread = 4 * time.Second
)

// subscriptions gives messages of pull subscriptions to other systems.
type subscriptions struct {
	replier
	topics  *delay.Topics
	readers *pull.Readers
	places  *places
	metrics *metrics
	drained context.Context // ends when this process stops
}

func (h *subscriptions) routes(group gin.IRoutes) {
	group.POST("/subscriptions/:name/receive", mayReceive, h.receive)
	group.POST("/subscriptions/:name/ack", mayReceive, h.ack)
	group.POST("/subscriptions/:name/nack", mayReceive, h.nack)
	group.POST("/subscriptions/:name/extend", mayReceive, h.extend)
}

// receive answers with messages that are due, or waits for them in one of the bounded places.
func (h *subscriptions) receive(c *gin.Context) {
	most, wait, ok := h.readReceive(c)
	if !ok {
		return
	}
	name := c.Param("name")
	if wait > 0 {
		if !h.places.take(name) {
			p := api.NewProblem(api.CodeUnavailable, "As many receivers wait here as work.max_waiting or "+
				"work.max_waiting_each allows.")
			p.RetryAfter = api.RetryAfter(crowdedRetry, crowdedSpread)
			api.WriteProblem(c, p)
			return
		}
		defer h.places.leave(name)
	}
	got, err := h.await(c, most, wait)
	if err != nil {
		if h.refuse(c, err) == api.CodeNotFound {
			h.metrics.forgetSubscription(name)
		}
		return
	}
	h.hand(c, got)
}

func (h *subscriptions) readReceive(c *gin.Context) (most int, wait time.Duration, ok bool) {
	var body api.Receive
	if !h.read(c, maxReceiveBytes, &body) {
		return 0, 0, false
	}
	most = 1
	if body.Max != nil {
		most = *body.Max
	}
	if body.Wait == nil {
		return most, 0, true
	}
	wait, err := time.ParseDuration(*body.Wait)
	if err != nil {
		api.WriteProblem(c, api.InvalidRequest(api.Field("wait", "must be a duration such as 20s")))
	}
	return most, wait, err == nil
}

// await receives until the receiver hangs up or this process stops. A stop is no error, but the end of the wait.
func (h *subscriptions) await(c *gin.Context, most int, wait time.Duration) ([]pull.Leased, error) {
	ctx, cancel := context.WithCancel(c.Request.Context())
	defer cancel()
	defer context.AfterFunc(h.drained, cancel)()
	got, err := h.readers.Receive(ctx, c.Param("name"), most, wait)
	if errors.Is(err, context.Canceled) && h.drained.Err() != nil && c.Request.Context().Err() == nil {
		return nil, nil
	}
	return got, err
}

// hand sends messages to their receiver. What could not be sent is handed back: nobody would know of its lease.
func (h *subscriptions) hand(c *gin.Context, got []pull.Leased) {
	answer := api.ReceivedMessages{Messages: make([]api.ReceivedMessage, len(got))}
	leases := make([]string, len(got))
	for i, m := range got {
		leases[i] = m.Lease
		answer.Messages[i] = api.ReceivedMessage{Attributes: m.About, Attempt: m.Attempt,
			DueAt: api.FormatTime(m.DueAt),
			Lease: m.Lease, LeaseUntil: api.FormatTime(m.Ends), Body: m.Body}
	}
	outcome := outcomeReceived
	if err := send(c, answer); err != nil {
		outcome = outcomeHandedBack
		h.log.Warn("messages did not reach their receiver", "request_id", api.RequestID(c), "subscription",
			c.Param("name"), "messages", len(got), "error", err)
		if len(got) > 0 {
			if _, err := h.readers.GiveBack(c.Request.Context(), c.Param("name"), leases); err != nil {
				h.log.Warn("messages could not be handed back: they wait for their lease's end", "request_id",
					api.RequestID(c), "subscription", c.Param("name"), "error", err)
			}
		}
	}
	if len(got) == 0 {
		return
	}
	if sub, err := h.topics.Subscription(c.Request.Context(), c.Param("name")); err == nil {
		h.metrics.received.WithLabelValues(sub.Topic, sub.Name, outcome).Add(float64(len(got)))
	}
}

// send writes an answer through to the connection. Gin's own writer would hide that it failed.
func send(c *gin.Context, answer any) error {
	raw, err := json.Marshal(answer)
	if err != nil {
		api.WriteProblem(c, api.NewProblem(api.CodeInternal, ""))
		return err
	}
	c.Header("Content-Type", "application/json; charset=utf-8")
	c.Header("Content-Length", strconv.Itoa(len(raw)))
	c.Status(http.StatusOK)
	if _, err := c.Writer.Write(raw); err != nil {
		return err
	}
	under := http.ResponseWriter(c.Writer)
	if w, ok := under.(interface{ Unwrap() http.ResponseWriter }); ok {
		under = w.Unwrap()
	}
	return http.NewResponseController(under).Flush()
}

func (h *subscriptions) ack(c *gin.Context) {
	var body api.Leases
	if h.read(c, maxLeasesBytes, &body) {
		stood, err := h.readers.Ack(c.Request.Context(), c.Param("name"), body.Leases)
		h.settled(c, body.Leases, stood, err)
	}
}

func (h *subscriptions) nack(c *gin.Context) {
	var body api.LeasesBack
	if !h.read(c, maxLeasesBytes, &body) {
		return
	}
	var wait *time.Duration
	if body.DelayMS != nil {
		wait = new(api.Milliseconds(*body.DelayMS))
	}
	stood, err := h.readers.Nack(c.Request.Context(), c.Param("name"), body.Leases, wait)
	h.settled(c, body.Leases, stood, err)
}

func (h *subscriptions) extend(c *gin.Context) {
	var body api.LeasesExtended
	if h.read(c, maxLeasesBytes, &body) {
		stood, err := h.readers.Extend(c.Request.Context(), c.Param("name"), body.Leases,
			api.Milliseconds(body.LeaseMS))
		h.settled(c, body.Leases, stood, err)
	}
}

func (h *subscriptions) settled(c *gin.Context, leases []string, stood []bool, err error) {
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, api.LeasesAnswerOf(leases, stood))
}

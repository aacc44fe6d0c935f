package admin

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
)

// deliveries answers for the messages of single subscriptions. A topic's routes are those of its own subscription.
type deliveries struct {
	replier
	topics   *delay.Topics
	messages *message.Store
	adminLog *adminlog.Log
}

func (h *deliveries) routes(group gin.IRoutes) {
	for prefix, of := range map[string]subscriptionFinder{
		"/topics/:topic":       h.ofTopic,
		"/subscriptions/:name": h.named,
	} {
		group.GET(prefix+"/messages", h.list(of))
		group.GET(prefix+"/dead", h.listDead(of))
		group.POST(prefix+"/dead/:id/retry", h.handleDead(of, deadChange{"retry", delay.Pending, h.messages.Retry}))
		group.POST(prefix+"/dead/:id/drop", h.handleDead(of, deadChange{"drop", delay.Dropped, h.messages.Drop}))
	}
}

// subscriptionFinder returns the subscription of a request, and how the admin log names it.
type subscriptionFinder func(c *gin.Context) (sub delay.Subscription, kind, target string, err error)

func (h *deliveries) ofTopic(c *gin.Context) (sub delay.Subscription, kind, target string, err error) {
	topic := c.Param("topic")
	if _, err := h.topics.Get(c.Request.Context(), topic); err != nil {
		return sub, "", "", err
	}
	sub, err = h.topics.Subscription(c.Request.Context(), topic+".default")
	return sub, "topic", topic, err
}

func (h *deliveries) named(c *gin.Context) (sub delay.Subscription, kind, target string, err error) {
	sub, err = h.topics.Subscription(c.Request.Context(), c.Param("name"))
	return sub, "subscription", c.Param("name"), err
}

// list pages through the messages of a subscription in a state.
func (h *deliveries) list(of subscriptionFinder) gin.HandlerFunc {
	return func(c *gin.Context) {
		limit, bad := api.PageSize(c)
		skip, bad := api.Skip(c, bad)
		if len(bad) > 0 {
			api.WriteProblem(c, api.InvalidRequest(bad...))
			return
		}
		sub, _, _, err := of(c)
		if err != nil {
			h.refuseDelay(c, err)
			return
		}
		page, err := h.messages.List(c.Request.Context(), sub,
			message.Listing{State: c.DefaultQuery("state", message.ListWaiting), Skip: skip, Limit: limit})
		if err != nil {
			h.refuseDelay(c, err)
			return
		}
		c.JSON(http.StatusOK, api.MessageList{Messages: api.MessageListOf(page.Messages), Next: page.Next})
	}
}

// listDead pages through dead letters, newest first.
func (h *deliveries) listDead(of subscriptionFinder) gin.HandlerFunc {
	return func(c *gin.Context) {
		limit, bad := api.PageSize(c)
		skip, bad := api.Skip(c, bad)
		if len(bad) > 0 {
			api.WriteProblem(c, api.InvalidRequest(bad...))
			return
		}
		sub, _, _, err := of(c)
		if err != nil {
			h.refuseDelay(c, err)
			return
		}
		letters, err := h.messages.DeadLetters(c.Request.Context(), sub, skip, int64(limit)+1)
		if err != nil {
			h.refuseDelay(c, err)
			return
		}
		var answer api.DeadMessageList
		if len(letters) > limit {
			letters, answer.Next = letters[:limit], skip+int64(limit)
		}
		answer.Dead = api.MessageListOf(letters)
		c.JSON(http.StatusOK, answer)
	}
}

// deadChange is what is done to a dead letter, and what becomes of it.
type deadChange struct {
	verb, becomes string
	do            func(ctx context.Context, sub delay.Subscription, id string) error
}

// handleDead changes a dead letter, with its entry in the admin log before that.
func (h *deliveries) handleDead(of subscriptionFinder, change deadChange) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
		if !h.read(c, &body) {
			return
		}
		sub, kind, target, err := of(c)
		if err == nil {
			act := adminlog.Act{Actor: actorOf(c), Action: kind + ".message." + change.verb, Target: target,
				Reason: body.Reason}
			err = h.changeDead(c, sub, act, change)
		}
		if err != nil {
			h.refuseDelay(c, err)
			return
		}
		c.Status(http.StatusNoContent)
	}
}

func (h *deliveries) changeDead(c *gin.Context, sub delay.Subscription, act adminlog.Act, change deadChange) error {
	ctx, id := c.Request.Context(), c.Param("id")
	m, err := h.messages.Show(ctx, sub, id)
	if err != nil && codeOf(err) == api.CodeInternal {
		m, err = delay.Message{State: unreadable}, nil // it can still be dropped
	}
	if err != nil {
		return err
	}
	was := messageImage{id, m.State, m.Attempts, m.Error}
	return h.adminLog.RecordChange(ctx, act, was, unchanged, func(ctx context.Context) (any, error) {
		return messageImage{Message: id, State: change.becomes}, change.do(ctx, sub, id)
	})
}

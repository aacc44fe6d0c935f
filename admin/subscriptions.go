package admin

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
)

// subscriptions answers for subscriptions of topics.
type subscriptions struct {
	replier
	topics   *delay.Topics
	messages *message.Store
}

func (h *subscriptions) routes(group gin.IRoutes) {
	group.GET("/subscriptions", h.list)
	group.POST("/subscriptions", h.create)
	group.GET("/subscriptions/:name", h.show)
	group.PATCH("/subscriptions/:name", h.update)
	group.DELETE("/subscriptions/:name", h.remove)
	group.POST("/subscriptions/:name/on", h.turn(true))
	group.POST("/subscriptions/:name/off", h.turn(false))
}

func subscriptionBodyOf(s delay.Subscription) api.Subscription {
	b := api.Subscription{Name: s.Name, Topic: s.Topic, Kind: s.Kind, URL: s.URL, Method: s.Method, Retries: s.Retries,
		RetryUnitMS: s.RetryUnitMS, Alert: s.Alert, Owner: s.Owner, Enabled: s.On(),
		Events: append([]string{}, s.EventList()...), Sales: append([]string{}, s.SaleList()...),
		CreatedAt: api.FormatTime(time.UnixMilli(s.CreatedAt)), UpdatedAt: api.FormatTime(time.UnixMilli(s.UpdatedAt))}
	switch s.Kind {
	case delay.Push:
		b.TimeoutMS = s.TimeoutMS
	case delay.Pull:
		b.LeaseMS = s.LeaseMS
	}
	return b
}

// list asks the database, so that it shows what another process has just changed.
func (h *subscriptions) list(c *gin.Context) {
	if err := h.topics.Refresh(c.Request.Context()); err != nil {
		h.refuseDelay(c, err)
		return
	}
	subs := h.topics.Subscriptions()
	if topic := c.Query("topic"); topic != "" {
		if _, err := h.topics.Get(c.Request.Context(), topic); err != nil {
			h.refuseDelay(c, err)
			return
		}
		subs = h.topics.Of(topic)
	}
	h.answer(c, subs, func(list []api.Subscription) {
		c.JSON(http.StatusOK, api.SubscriptionList{Subscriptions: list})
	})
}

func (h *subscriptions) show(c *gin.Context) {
	if err := h.topics.Refresh(c.Request.Context()); err != nil {
		h.refuseDelay(c, err)
		return
	}
	sub, err := h.topics.Subscription(c.Request.Context(), c.Param("name"))
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	h.answer(c, []delay.Subscription{sub}, func(list []api.Subscription) { c.JSON(http.StatusOK, list[0]) })
}

// answer adds what is unfinished and what was missed to the subscriptions, and answers.
func (h *subscriptions) answer(c *gin.Context, subs []delay.Subscription, with func([]api.Subscription)) {
	counts, failed := h.messages.Count(c.Request.Context(), subs)
	missed, unread := h.messages.Missed(c.Request.Context(), subs)
	pauses, unseen := h.messages.Pauses(c.Request.Context(), subs)
	list := make([]api.Subscription, len(subs))
	for i, sub := range subs {
		list[i] = subscriptionBodyOf(sub)
		if failed[i] = errors.Join(failed[i], unread[i], unseen[i]); failed[i] != nil {
			list[i].Unread = failed[i].Error()
			continue
		}
		list[i].Messages, list[i].Missed = new(api.TopicCounts(counts[i])), missed[i]
		if p := pauses[i]; !p.Until.IsZero() {
			list[i].PausedUntil, list[i].Paused = api.FormatTime(p.Until), p.Why
		}
	}
	if len(subs) > 0 && !slices.Contains(failed, nil) {
		h.refuseDelay(c, failed[0])
		return
	}
	with(list)
}

func (h *subscriptions) create(c *gin.Context) {
	var body struct {
		delay.NewSubscription
		delay.SubscriptionChange
		api.WithReason
	}
	if !h.read(c, &body) {
		return
	}
	sub, err := h.topics.CreateSubscription(c.Request.Context(), body.NewSubscription, body.SubscriptionChange,
		actorOf(c), body.Reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	answer := subscriptionBodyOf(sub)
	if body.Secret == nil { // it was made here: nobody else knows it
		answer.Secret = sub.Secret
	}
	c.JSON(http.StatusCreated, answer)
}

func (h *subscriptions) update(c *gin.Context) {
	var body struct {
		delay.SubscriptionChange
		api.WithReason
	}
	if h.read(c, &body) {
		h.change(c, body.SubscriptionChange, body.Reason)
	}
}

// turn switches a subscription on or off. It has routes of its own: who may switch one need not be allowed to change
// where it leads.
func (h *subscriptions) turn(on bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
		if h.read(c, &body) {
			h.change(c, delay.SubscriptionChange{Enabled: &on}, body.Reason)
		}
	}
}

func (h *subscriptions) change(c *gin.Context, change delay.SubscriptionChange, reason string) {
	sub, err := h.topics.UpdateSubscription(c.Request.Context(), c.Param("name"), change, actorOf(c), reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, subscriptionBodyOf(sub))
}

// remove gives up unfinished messages only where the caller says so.
func (h *subscriptions) remove(c *gin.Context) {
	giveUp := c.Query("give_up")
	if giveUp != "" && giveUp != "true" && giveUp != "false" {
		api.WriteProblem(c, api.InvalidRequest(api.FieldError{Field: "give_up", Detail: "must be true or false"}))
		return
	}
	d := delay.Deletion{Name: c.Param("name"), GiveUp: giveUp == "true"}
	if err := h.topics.DeleteSubscription(c.Request.Context(), d, actorOf(c), c.Query("reason")); err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

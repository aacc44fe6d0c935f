package admin

import (
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
)

func topicBodyOf(t delay.Topic) api.Topic {
	b := api.Topic{Name: t.Name, URL: t.URL, Method: t.Method, DelayMS: t.DelayMS, TimeoutMS: t.TimeoutMS,
		Retries: t.Retries, RetryUnitMS: t.RetryUnitMS,
		Alert: t.Alert, Owner: t.Owner, Enabled: t.On(), Events: t.EventList(), Store: t.StoreName(), Lost: t.Lost,
		CreatedAt: api.FormatTime(time.UnixMilli(t.CreatedAt)), UpdatedAt: api.FormatTime(time.UnixMilli(t.UpdatedAt))}
	b.Subscriptions = []string{}
	if t.LostAt > 0 {
		b.LostAt = api.FormatTime(time.UnixMilli(t.LostAt))
	}
	if b.Events == nil {
		b.Events = []string{}
	}
	return b
}

// topics answers for topics.
type topics struct {
	replier
	topics   *delay.Topics
	messages *message.Store
}

func (h *topics) routes(group gin.IRoutes) {
	group.GET("/topics", h.listTopics)
	group.POST("/topics", h.createTopic)
	group.GET("/topics/:topic", h.showTopic)
	group.PATCH("/topics/:topic", h.updateTopic)
	group.DELETE("/topics/:topic", h.deleteTopic)
	group.POST("/topics/:topic/on", h.switchTopic(true))
	group.POST("/topics/:topic/off", h.switchTopic(false))
}

// listTopics asks the database, so that it shows what another process has just changed.
func (h *topics) listTopics(c *gin.Context) {
	if err := h.topics.Refresh(c.Request.Context()); err != nil {
		h.refuseDelay(c, err)
		return
	}
	h.answerTopics(c, h.topics.All(), func(list []api.Topic) { c.JSON(http.StatusOK, gin.H{"topics": list}) })
}

func (h *topics) showTopic(c *gin.Context) {
	if err := h.topics.Refresh(c.Request.Context()); err != nil {
		h.refuseDelay(c, err)
		return
	}
	topic, err := h.topics.Get(c.Request.Context(), c.Param("topic"))
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	h.answerTopics(c, []delay.Topic{topic}, func(list []api.Topic) { c.JSON(http.StatusOK, list[0]) })
}

// answerTopics adds subscriptions and what is unfinished in all of them to the topics, and answers.
func (h *topics) answerTopics(c *gin.Context, topics []delay.Topic, with func([]api.Topic)) {
	list, failed := make([]api.Topic, len(topics)), make([]error, len(topics))
	var subs []delay.Subscription
	of := map[string]int{}
	for i, t := range topics {
		list[i] = topicBodyOf(t)
		list[i].Messages = new(api.TopicCounts)
		of[t.Name] = i
		for _, sub := range h.topics.Of(t.Name) {
			list[i].Subscriptions = append(list[i].Subscriptions, sub.Name)
			subs = append(subs, sub)
		}
	}
	counts, broken := h.messages.Count(c.Request.Context(), subs)
	for i, sub := range subs {
		at := of[sub.Topic]
		if broken[i] != nil {
			list[at].Messages, list[at].Unread, failed[at] = nil, broken[i].Error(), broken[i]
		} else if sum := list[at].Messages; sum != nil {
			sum.Add(api.TopicCounts(counts[i]))
		}
	}
	if len(topics) > 0 && !slices.Contains(failed, nil) {
		h.refuseDelay(c, failed[0])
		return
	}
	with(list)
}

func (h *topics) createTopic(c *gin.Context) {
	var body struct {
		Name string `json:"name"`
		delay.Change
		api.WithReason
	}
	if !h.read(c, &body) {
		return
	}
	topic, err := h.topics.Create(c.Request.Context(), body.Name, body.Change, actorOf(c), body.Reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	answer := topicBodyOf(topic)
	if body.Secret == nil { // it was made here: nobody else knows it
		answer.Secret = topic.Secret
	}
	c.JSON(http.StatusCreated, answer)
}

func (h *topics) updateTopic(c *gin.Context) {
	var body struct {
		delay.Change
		api.WithReason
	}
	if !h.read(c, &body) {
		return
	}
	h.changeTopic(c, body.Change, body.Reason)
}

// switchTopic switches a topic on or off. It has routes of its own: who may switch one need not be allowed to change
// where it leads.
func (h *topics) switchTopic(on bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
		if h.read(c, &body) {
			h.changeTopic(c, delay.Change{Enabled: &on}, body.Reason)
		}
	}
}

func (h *topics) changeTopic(c *gin.Context, change delay.Change, reason string) {
	topic, err := h.topics.Update(c.Request.Context(), c.Param("topic"), change, actorOf(c), reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, topicBodyOf(topic))
}

func (h *topics) deleteTopic(c *gin.Context) {
	if err := h.topics.Delete(c.Request.Context(), c.Param("topic"), actorOf(c), c.Query("reason")); err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

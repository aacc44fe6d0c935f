package gateway

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/internal/invalid"
)

func topicBodyOf(t delay.Topic) api.Topic {
	b := api.Topic{Name: t.Name, URL: t.URL, Method: t.Method, DelayMS: t.DelayMS, TimeoutMS: t.TimeoutMS, Retries: t.Retries, RetryUnitMS: t.RetryUnitMS,
		Alert: t.Alert, Owner: t.Owner, Enabled: t.On(), Events: t.EventList(),
		CreatedAt: api.FormatTime(time.UnixMilli(t.CreatedAt)), UpdatedAt: api.FormatTime(time.UnixMilli(t.UpdatedAt))}
	if b.Events == nil {
		b.Events = []string{}
	}
	return b
}

func (o *Ops) topicRoutes(admin gin.IRoutes) {
	admin.GET("/topics", o.listTopics)
	admin.POST("/topics", o.createTopic)
	admin.GET("/topics/:topic", o.showTopic)
	admin.PATCH("/topics/:topic", o.updateTopic)
	admin.DELETE("/topics/:topic", o.deleteTopic)
	admin.POST("/topics/:topic/on", o.switchTopic(true))
	admin.POST("/topics/:topic/off", o.switchTopic(false))
	admin.POST("/topics/:topic/messages", o.addMessages)
	admin.GET("/topics/:topic/messages/:id", o.showMessage)
	admin.DELETE("/topics/:topic/messages/:id", o.cancelMessage)
	admin.GET("/topics/:topic/dead", o.listDeadMessages)
	admin.POST("/topics/:topic/dead/:id/retry", o.retryMessage)
	admin.POST("/topics/:topic/dead/:id/drop", o.dropMessage)
}

// listTopics asks the database, so that it shows what another process has just changed.
func (o *Ops) listTopics(c *gin.Context) {
	if err := o.Topics.Refresh(c.Request.Context()); err != nil {
		o.refuseDelay(c, err)
		return
	}
	o.answerTopics(c, o.Topics.All(), func(list []api.Topic) { c.JSON(http.StatusOK, gin.H{"topics": list}) })
}

func (o *Ops) showTopic(c *gin.Context) {
	if err := o.Topics.Refresh(c.Request.Context()); err != nil {
		o.refuseDelay(c, err)
		return
	}
	topic, err := o.Topics.Get(c.Request.Context(), c.Param("topic"))
	if err != nil {
		o.refuseDelay(c, err)
		return
	}
	o.answerTopics(c, []delay.Topic{topic}, func(list []api.Topic) { c.JSON(http.StatusOK, list[0]) })
}

// answerTopics adds what is unfinished to the topics, and answers.
func (o *Ops) answerTopics(c *gin.Context, topics []delay.Topic, with func([]api.Topic)) {
	counts, failed := o.Messages.Count(c.Request.Context(), topics)
	list := make([]api.Topic, len(topics))
	for i, t := range topics {
		list[i] = topicBodyOf(t)
		if failed[i] != nil {
			list[i].Unread = failed[i].Error()
			continue
		}
		list[i].Messages = new(api.TopicCounts(counts[i]))
	}
	if len(topics) > 0 && !slices.Contains(failed, nil) {
		o.refuseDelay(c, failed[0])
		return
	}
	with(list)
}

func (o *Ops) createTopic(c *gin.Context) {
	var body struct {
		Name string `json:"name"`
		delay.Change
		api.WithReason
	}
	if !o.read(c, &body) {
		return
	}
	topic, err := o.Topics.Create(c.Request.Context(), body.Name, body.Change, actorOf(c), body.Reason)
	if err != nil {
		o.refuseDelay(c, err)
		return
	}
	answer := topicBodyOf(topic)
	if body.Secret == nil { // it was made here: nobody else knows it
		answer.Secret = topic.Secret
	}
	c.JSON(http.StatusCreated, answer)
}

func (o *Ops) updateTopic(c *gin.Context) {
	var body struct {
		delay.Change
		api.WithReason
	}
	if !o.read(c, &body) {
		return
	}
	o.changeTopic(c, body.Change, body.Reason)
}

// switchTopic has routes of its own, so that who may switch a topic need not be allowed to change where it leads.
func (o *Ops) switchTopic(on bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
		if o.read(c, &body) {
			o.changeTopic(c, delay.Change{Enabled: &on}, body.Reason)
		}
	}
}

func (o *Ops) changeTopic(c *gin.Context, change delay.Change, reason string) {
	topic, err := o.Topics.Update(c.Request.Context(), c.Param("topic"), change, actorOf(c), reason)
	if err != nil {
		o.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, topicBodyOf(topic))
}

func (o *Ops) deleteTopic(c *gin.Context) {
	if err := o.Topics.Delete(c.Request.Context(), c.Param("topic"), actorOf(c), c.Query("reason")); err != nil {
		o.refuseDelay(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// refuseDelay is refuse for topics and messages, whose errors name them.
func (o *Ops) refuseDelay(c *gin.Context, err error) {
	code := codeOf(err)
	if bad, ok := errors.AsType[invalid.Error](err); ok {
		api.WriteProblem(c, api.InvalidRequest(api.FieldErrors(bad)...))
		return
	}
	if code != api.CodeNotFound && code != api.CodeQueueFull {
		o.refuse(c, err)
		return
	}
	p := api.NewProblem(code, err.Error())
	p.RetryAfter = time.Second
	api.WriteProblem(c, p)
}

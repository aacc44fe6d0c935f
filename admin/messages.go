package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
	"sluice/delay"
	"sluice/internal/invalid"
)

// maxMessagesBytes bounds one call that adds messages.
const maxMessagesBytes = 8 << 20

// messages answers for the messages of topics.
type messages struct {
	replier
	topics   *delay.Topics
	messages *delay.Store
	adminLog *adminlog.Log
}

func (h *messages) routes(group gin.IRoutes) {
	group.POST("/topics/:topic/messages", h.addMessages)
	group.GET("/topics/:topic/messages/:id", h.showMessage)
	group.DELETE("/topics/:topic/messages/:id", h.cancelMessage)
	group.GET("/topics/:topic/dead", h.listDeadMessages)
	group.POST("/topics/:topic/dead/:id/retry", h.retryMessage)
	group.POST("/topics/:topic/dead/:id/drop", h.dropMessage)
}

// messagesOf fills in the topic's own delay where a message names no time.
func messagesOf(n api.NewMessages, topic delay.Topic) []delay.New {
	list := make([]delay.New, len(n.Messages))
	for i, m := range n.Messages {
		list[i] = delay.New{ID: m.ID, Body: m.Body}
		switch {
		case m.DelayMS != nil:
			list[i].Delay = saturated(*m.DelayMS)
		case m.At == nil:
			list[i].Delay = topic.Delay()
		}
		if m.At != nil {
			list[i].At = *m.At
		}
	}
	return list
}

// saturated is so many milliseconds, or the longest time there is: never one that has wrapped around.
func saturated(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(max(ms, -most), most)) * time.Millisecond
}

func (h *messages) addMessages(c *gin.Context) {
	topic, err := h.topics.Get(c.Request.Context(), c.Param("topic"))
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	raw, problem := api.ReadUpTo(c.Request, maxMessagesBytes)
	if problem != nil {
		api.WriteProblem(c, *problem)
		return
	}
	var body api.NewMessages
	if bad := api.DecodeBody(raw, &body); bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return
	}
	list := messagesOf(body, topic)
	due, err := h.add(c, topic.Name, list, body.Reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	added := make([]api.AddedMessage, len(list))
	for i := range list {
		added[i] = api.AddedMessage{ID: list[i].ID, DueAt: api.FormatTime(due[i])}
	}
	c.JSON(http.StatusOK, api.AddedMessages{Messages: added})
}

// addedImage is what somebody added by hand, as the admin log shows it. What the messages say is not in it.
type addedImage struct {
	Count    int      `json:"count"`
	Messages []string `json:"messages"` // the first of them
	State    string   `json:"state"`
}

// add adds messages: those of a shop's systems are traffic, those that come with a reason are a change in the admin
// log.
func (h *messages) add(c *gin.Context, topic string, list []delay.New, reason *string) (due []time.Time, err error) {
	ctx := c.Request.Context()
	if reason == nil {
		return h.messages.Add(ctx, topic, list)
	}
	image := addedImage{Count: len(list), Messages: []string{}, State: delay.Pending}
	for _, m := range list[:min(len(list), 20)] {
		image.Messages = append(image.Messages, m.ID)
	}
	refused := func(err error) bool {
		_, invalid := errors.AsType[invalid.Error](err)
		return invalid || unchanged(err)
	}
	act := adminlog.Act{Actor: actorOf(c), Action: "topic.message.add", Target: topic, Reason: *reason}
	err = h.adminLog.RecordChange(ctx, act, nil, refused, func(ctx context.Context) (any, error) {
		due, err = h.messages.Add(ctx, topic, list)
		return image, err
	})
	return due, err
}

func messageBodyOf(m delay.Message) api.Message {
	b := api.Message{Topic: m.Topic, ID: m.ID, State: m.State, Attempts: m.Attempts, LastError: m.Error,
		AddedAt:  api.FormatTime(m.AddedAt),
		FirstDue: api.FormatTime(m.FirstDue), Body: m.Body}
	if !m.DueAt.IsZero() {
		b.DueAt = api.FormatTime(m.DueAt)
	}
	if !m.EndedAt.IsZero() {
		b.EndedAt = api.FormatTime(m.EndedAt)
	}
	return b
}

func (h *messages) showMessage(c *gin.Context) {
	if _, err := h.topics.Get(c.Request.Context(), c.Param("topic")); err != nil {
		h.refuseDelay(c, err)
		return
	}
	m, err := h.messages.Show(c.Request.Context(), c.Param("topic"), c.Param("id"))
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, messageBodyOf(m))
}

func (h *messages) cancelMessage(c *gin.Context) {
	h.changeMessage(c, "topic.message.cancel", delay.Cancelled, c.Query("reason"), h.messages.Cancel)
}

// listDeadMessages pages through the dead letters of a topic, newest first.
func (h *messages) listDeadMessages(c *gin.Context) {
	limit, bad := api.PageSize(c)
	skip, bad := api.Skip(c, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if _, err := h.topics.Get(c.Request.Context(), c.Param("topic")); err != nil {
		h.refuseDelay(c, err)
		return
	}
	letters, err := h.messages.DeadLetters(c.Request.Context(), c.Param("topic"), skip, int64(limit)+1)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	answer := api.DeadMessageList{Dead: []api.Message{}}
	if len(letters) > limit {
		letters, answer.Next = letters[:limit], skip+int64(limit)
	}
	for _, m := range letters {
		answer.Dead = append(answer.Dead, messageBodyOf(m))
	}
	c.JSON(http.StatusOK, answer)
}

func (h *messages) retryMessage(c *gin.Context) {
	h.handleDead(c, "topic.message.retry", delay.Pending, h.messages.Retry)
}

func (h *messages) dropMessage(c *gin.Context) {
	h.handleDead(c, "topic.message.drop", delay.Dropped, h.messages.Drop)
}

func (h *messages) handleDead(
	c *gin.Context, action, becomes string, do func(ctx context.Context, topic, id string) error,
) {
	var body api.WithReason
	if h.read(c, &body) {
		h.changeMessage(c, action, becomes, body.Reason, do)
	}
}

// messageImage is a message as the admin log shows it.
type messageImage struct {
	Message  string `json:"message"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Error    string `json:"last_error,omitempty"`
}

// changeMessage does something to a message, with its entry in the admin log before it.
func (h *messages) changeMessage(
	c *gin.Context, action, becomes, reason string, do func(ctx context.Context, topic, id string) error,
) {
	ctx, topic, id := c.Request.Context(), c.Param("topic"), c.Param("id")
	if _, err := h.topics.Get(ctx, topic); err != nil {
		h.refuseDelay(c, err)
		return
	}
	m, err := h.messages.Show(ctx, topic, id)
	if err != nil && codeOf(err) == api.CodeInternal {
		m, err = delay.Message{State: "unreadable"}, nil // it can still be dropped
	}
	if err == nil {
		was := messageImage{id, m.State, m.Attempts, m.Error}
		act := adminlog.Act{Actor: actorOf(c), Action: action, Target: topic, Reason: reason}
		err = h.adminLog.RecordChange(ctx, act, was, unchanged, func(ctx context.Context) (any, error) {
			return messageImage{Message: id, State: becomes}, do(ctx, topic, id)
		})
	}
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

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
	"sluice/delay/publish"
	"sluice/internal/invalid"
)

// maxMessagesBytes bounds one call that adds messages.
const maxMessagesBytes = 8 << 20

// messages answers for the messages of topics, whichever subscriptions they have.
type messages struct {
	replier
	topics    *delay.Topics
	publisher *publish.Publisher
	adminLog  *adminlog.Log
}

func (h *messages) routes(group gin.IRoutes) {
	group.POST("/topics/:topic/messages", h.addMessages)
	group.GET("/topics/:topic/messages/:id", h.showMessage)
	group.DELETE("/topics/:topic/messages/:id", h.cancelMessage)
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
	list := api.MessagesOf(body.Messages, topic)
	due, err := h.add(c, topic.Name, list, body.Reason)
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, api.AddedOf(list, due))
}

// addedImage is what somebody added by hand, as the admin log shows it. What the messages say is not in it.
type addedImage struct {
	Count    int      `json:"count"`
	Messages []string `json:"messages"` // the first of them
	State    string   `json:"state"`
}

// add adds messages. Those of a shop's systems are traffic; those that come with a reason are a change in the admin
// log.
func (h *messages) add(c *gin.Context, topic string, list []delay.New, reason *string) (due []time.Time, err error) {
	ctx := c.Request.Context()
	if reason == nil {
		return h.publisher.Add(ctx, topic, list)
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
		due, err = h.publisher.Add(ctx, topic, list)
		return image, err
	})
	return due, err
}

// showMessage answers with what the first subscription knows that has not finished the message, and names the others.
func (h *messages) showMessage(c *gin.Context) {
	found, err := h.publisher.Show(c.Request.Context(), c.Param("topic"), c.Param("id"))
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.JSON(http.StatusOK, api.MessageOfAll(found))
}

// messageImage is a message as the admin log shows it.
type messageImage struct {
	Message  string `json:"message"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	Error    string `json:"last_error,omitempty"`
}

// cancelMessage cancels a message wherever it waits, with its entry in the admin log before that.
func (h *messages) cancelMessage(c *gin.Context) {
	ctx, topic, id := c.Request.Context(), c.Param("topic"), c.Param("id")
	found, err := h.publisher.Show(ctx, topic, id)
	m := delay.LeastFinished(found)
	if err != nil && codeOf(err) == api.CodeInternal {
		m, err = delay.Message{State: unreadable}, nil // it can still be cancelled
	}
	if err == nil {
		was := messageImage{id, m.State, m.Attempts, m.Error}
		act := adminlog.Act{Actor: actorOf(c), Action: "topic.message.cancel", Target: topic, Reason: c.Query("reason")}
		err = h.adminLog.RecordChange(ctx, act, was, unchanged, func(ctx context.Context) (any, error) {
			return messageImage{Message: id, State: delay.Cancelled}, h.publisher.Cancel(ctx, topic, id)
		})
	}
	if err != nil {
		h.refuseDelay(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// unreadable is the state of a message whose record somebody has overwritten.
const unreadable = "unreadable"

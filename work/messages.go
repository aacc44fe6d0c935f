package work

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/publish"
	"sluice/gateway/ratelimit"
)

// maxMessagesBytes bounds one call that adds messages.
const maxMessagesBytes = 8 << 20

// messages adds messages of other systems, and looks after them.
type messages struct {
	replier
	topics    *delay.Topics
	publisher *publish.Publisher
	limiter   *ratelimit.Limiter
	metrics   *metrics
}

func (h *messages) routes(group gin.IRoutes) {
	group.POST("/topics/:topic/messages", mayPublish, h.limit, h.add)
	group.GET("/topics/:topic/messages/:id", mayPublish, notOurs, h.limit, h.show)
	group.DELETE("/topics/:topic/messages/:id", mayPublish, notOurs, h.limit, h.cancel)
}

// notOurs keeps events of orders from publishers: neither their state nor their end is theirs.
func notOurs(c *gin.Context) {
	if delay.Reserved(c.Param("id")) {
		api.WriteProblem(c, api.NewProblem(api.CodeForbidden, "An event of an order is not a publisher's."))
	}
}

// limit counts the requests of each publisher.
func (h *messages) limit(c *gin.Context) {
	d := h.limiter.AllowUser("", rightsOf(c).System)
	if d.OK {
		return
	}
	p := api.NewProblem(api.CodeRateLimited, "This publisher sends more requests than work.publish_rps allows.")
	p.RetryAfter = d.RetryAfter
	p.RateLimitPolicy, p.RateLimit = d.Headers()
	api.WriteProblem(c, p)
}

// add takes 1 to 1,000 messages, all or none.
func (h *messages) add(c *gin.Context) {
	topic, err := h.topics.Get(c.Request.Context(), c.Param("topic"))
	if err != nil {
		h.refuseAdd(c, err)
		return
	}
	var body struct {
		Messages []api.NewMessage `json:"messages"`
	}
	if !h.read(c, maxMessagesBytes, &body) {
		h.metrics.published.WithLabelValues(topic.Name, string(api.RefusalOf(c))).Inc()
		return
	}
	list := api.MessagesOf(body.Messages, topic)
	due, err := h.publisher.Add(c.Request.Context(), topic.Name, list)
	if err != nil {
		h.refuseAdd(c, err)
		return
	}
	h.metrics.published.WithLabelValues(topic.Name, outcomeAdded).Inc()
	c.JSON(http.StatusOK, api.AddedOf(list, due))
}

func (h *messages) refuseAdd(c *gin.Context, err error) {
	topic, code := c.Param("topic"), h.refuse(c, err)
	if code == api.CodeNotFound {
		h.metrics.forgetTopic(topic)
		return
	}
	h.metrics.published.WithLabelValues(topic, string(code)).Inc()
}

func (h *messages) show(c *gin.Context) {
	found, err := h.publisher.Show(c.Request.Context(), c.Param("topic"), c.Param("id"))
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, api.MessageOfAll(found))
}

func (h *messages) cancel(c *gin.Context) {
	if err := h.publisher.Cancel(c.Request.Context(), c.Param("topic"), c.Param("id")); err != nil {
		h.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

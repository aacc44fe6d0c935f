package work

import (
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

// access lets in the shop's other systems.
type access struct {
	auth   *auth.Authenticator
	barred func() error
}

// rightsKey holds the auth.Rights of an authenticated request.
const rightsKey = "sluice.rights"

func (h access) authenticate(c *gin.Context) {
	rights, err := h.auth.Work(c.Request)
	if err != nil {
		api.WriteProblem(c, server.Refused(err))
		return
	}
	c.Set(rightsKey, rights)
}

// barredRetry is when a process that must not touch the stores may have been let in again.
const barredRetry = 3 * time.Second

// unbarred refuses everything while this process must not touch the stores.
func (h access) unbarred(c *gin.Context) {
	if h.barred() != nil {
		p := api.NewProblem(api.CodeUnavailable, "This process takes no part right now; ask another.")
		p.RetryAfter = barredRetry
		api.WriteProblem(c, p)
	}
}

func rightsOf(c *gin.Context) auth.Rights { return c.MustGet(rightsKey).(auth.Rights) }

// mayPublish refuses topics that the token does not name, whether they exist or not.
func mayPublish(c *gin.Context) {
	if !rightsOf(c).MayPublish(c.Param("topic")) {
		api.WriteProblem(c, api.NewProblem(api.CodeForbidden, "The token's claim publish does not name this topic."))
	}
}

// mayReceive refuses subscriptions that the token does not name, whether they exist or not.
func mayReceive(c *gin.Context) {
	if !rightsOf(c).MayReceive(c.Param("name")) {
		api.WriteProblem(c, api.NewProblem(api.CodeForbidden,
			"The token's claim subscribe does not name this subscription."))
	}
}

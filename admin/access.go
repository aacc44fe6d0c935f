package admin

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

// access lets in who may do what they ask for.
type access struct {
	auth   *auth.Authenticator
	barred func() error // why this process must not change the stores; nil, or a nil error: it may
}

// roleFor returns the role that a route of the admin API needs: the one table of them. A route that
// is in none of its lines reads for viewers and changes for administrators.
func roleFor(method, route string) auth.Role {
	switch method + " " + route {
	case "POST /admin/v1/sales/:sale/open",
		"POST /admin/v1/sales/:sale/pause",
		"PATCH /admin/v1/sales/:sale",
		"POST /admin/v1/sales/:sale/rebuild",
		"POST /admin/v1/sales/:sale/dead/:id/requeue",
		"POST /admin/v1/sales/:sale/dead/requeue",
		"POST /admin/v1/notifications/retry",
		"POST /admin/v1/topics/:topic/on",
		"POST /admin/v1/topics/:topic/off",
		"POST /admin/v1/topics/:topic/messages",
		"DELETE /admin/v1/topics/:topic/messages/:id",
		"POST /admin/v1/topics/:topic/dead/:id/retry",
		"POST /admin/v1/subscriptions/:name/on",
		"POST /admin/v1/subscriptions/:name/off",
		"POST /admin/v1/subscriptions/:name/dead/:id/retry",
		"PATCH /admin/v1/limits",
		"POST /admin/v1/limits/revert",
		"PUT /admin/v1/switches/admission",
		"PUT /admin/v1/switches/drain",
		"PUT /admin/v1/log-level",
		"POST /admin/v1/reload":
		return auth.RoleOperator
	case "POST /admin/v1/sales",
		"POST /admin/v1/sales/:sale/close",
		"POST /admin/v1/sales/:sale/stock",
		"POST /admin/v1/sales/:sale/dead/:id/drop",
		"POST /admin/v1/sales/:sale/dead/drop",
		"POST /admin/v1/topics",
		"PATCH /admin/v1/topics/:topic",
		"DELETE /admin/v1/topics/:topic",
		"POST /admin/v1/topics/:topic/dead/:id/drop",
		"POST /admin/v1/subscriptions",
		"PATCH /admin/v1/subscriptions/:name",
		"DELETE /admin/v1/subscriptions/:name",
		"POST /admin/v1/subscriptions/:name/dead/:id/drop",
		"PATCH /admin/v1/config",
		"POST /admin/v1/config/revert":
		return auth.RoleAdmin
	}
	if method == http.MethodGet {
		return auth.RoleViewer
	}
	return auth.RoleAdmin
}

// actorKey holds the auth.Actor of an authenticated request.
const actorKey = "sluice.actor"

func (h *access) authenticate(c *gin.Context) {
	actor, err := h.auth.Admin(c.Request)
	if err != nil {
		api.WriteProblem(c, server.Refused(err))
		return
	}
	c.Set(actorKey, actor)
	if need := roleFor(c.Request.Method, c.FullPath()); !actor.Role.Covers(need) {
		api.WriteProblem(c, api.NewProblem(api.CodeForbidden,
			"This needs the role "+string(need)+"; the token's is "+string(actor.Role)+"."))
	}
}

// unbarred refuses changes while this process must not touch the stores, and says why.
func (h *access) unbarred(c *gin.Context) {
	if h.barred == nil || c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead {
		return
	}
	if err := h.barred(); err != nil {
		p := api.NewProblem(api.CodeUnavailable, "This process changes nothing: "+err.Error())
		p.RetryAfter = barredRetry
		api.WriteProblem(c, p)
	}
}

// barredRetry is when a process that must not touch the stores may have been let in again.
const barredRetry = 3 * time.Second

func actorOf(c *gin.Context) string {
	if a, ok := c.Get(actorKey); ok {
		return a.(auth.Actor).Name
	}
	return ""
}

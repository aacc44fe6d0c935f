package gateway

import (
	"net/http"

	"sluice/gateway/auth"
)

// roleFor is the one table from a route of the admin API to the role it needs.
// A route that is in none of its lines reads for viewers and changes for
// administrators.
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
		"PATCH /admin/v1/config",
		"POST /admin/v1/config/revert":
		return auth.RoleAdmin
	}
	if method == http.MethodGet {
		return auth.RoleViewer
	}
	return auth.RoleAdmin
}

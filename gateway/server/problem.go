package server

import (
	"errors"

	"sluice/api"
	"sluice/gateway/auth"
)

// Unauthorized returns the 401 for an error of User or Admin.
func Unauthorized(err error) api.Problem {
	if refusal, ok := errors.AsType[*auth.RefusalError](err); ok {
		return api.Unauthorized(refusal.Reason, refusal.Sent)
	}
	return api.Unauthorized("Send a valid token.", false)
}

// Refused returns the problem for an error of Admin or Work. It is 403 for a good token of another listener, else
// 401.
func Refused(err error) api.Problem {
	if forbidden, ok := errors.AsType[*auth.ForbiddenError](err); ok {
		return api.NewProblem(api.CodeForbidden, forbidden.Reason)
	}
	return Unauthorized(err)
}

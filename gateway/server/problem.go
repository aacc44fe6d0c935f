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

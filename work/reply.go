package work

import (
	"bytes"
	"errors"
	"log/slog"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/gateway/server"
	"sluice/internal/invalid"
)

// replier reads bodies and answers refusals, for every handler.
type replier struct {
	log     *slog.Logger
	refused *server.RefusalLog
}

// read decodes a body of at most so many bytes strictly, or answers the request. An empty one leaves into as it is.
func (h replier) read(c *gin.Context, most int64, into any) bool {
	raw, problem := api.ReadUpTo(c.Request, most)
	if problem != nil {
		if problem.Code == api.CodeInvalidRequest {
			problem.Errors = []api.FieldError{api.Field("body", problem.Detail)}
		}
		api.WriteProblem(c, *problem)
		return false
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return true
	}
	if bad := api.DecodeBody(raw, into); bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return false
	}
	return true
}

// refuse answers with the problem for err, and returns its code. Where a store fails the log knows more.
func (h replier) refuse(c *gin.Context, err error) api.Code {
	code := api.CodeOf(err)
	if bad, ok := errors.AsType[invalid.Error](err); ok {
		api.WriteProblem(c, api.InvalidRequest(api.FieldErrors(bad)...))
		return code
	}
	detail := err.Error()
	switch code {
	case api.CodeUnavailable:
		if c.Request.Context().Err() == nil { // else it is who hung up that ended the call
			h.refused.Note(api.RequestID(c), c.FullPath(), err)
		}
		detail = "Redis or the database does not answer right now; repeat the request."
		if store, known := errors.AsType[delay.StoreError](err); known {
			detail = "Store " + store.Store + " of delayed messages does not take or give any right now; " +
				"repeat the request."
		}
	case api.CodeInternal:
		h.log.Error("request of another system failed", "request_id", api.RequestID(c), "route", c.FullPath(),
			"error", err)
	}
	p := api.NewProblem(code, detail)
	p.RetryAfter = api.RetryAfter(time.Second, time.Second)
	api.WriteProblem(c, p)
	return code
}

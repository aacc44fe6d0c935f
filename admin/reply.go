package admin

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/server"
	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/queue"
	"sluice/settings"
)

// replier reads bodies and answers refusals, for every handler.
type replier struct {
	log     *slog.Logger
	refused *server.RefusalLog
}

// read decodes the body strictly, or answers the request.
func (h *replier) read(c *gin.Context, into any) bool {
	raw, problem := api.ReadBody(c.Request)
	if problem != nil {
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

// refuse answers with the problem for err. Operators see what went wrong.
func (h *replier) refuse(c *gin.Context, err error) { h.refuseWith(c, err, nil) }

// refuseWith refuses with further members in the body.
func (h *replier) refuseWith(c *gin.Context, err error, with any) {
	code := codeOf(err)
	detail := api.DetailOf(code, err)
	if code == api.CodeUnavailable || code == api.CodeNotFound { // it names what is missing
		detail = err.Error()
	}
	p := api.NewProblem(code, detail)
	p.RetryAfter, p.With = time.Second, with
	var invalid invalid.Error
	if errors.As(err, &invalid) {
		p.Errors = api.FieldErrors(invalid)
	}
	if code == api.CodeUnavailable {
		h.refused.Note(api.RequestID(c), c.FullPath(), err)
	}
	if code == api.CodeInternal {
		h.log.Error("admin request failed", "request_id", api.RequestID(c), "route", c.FullPath(), "error", err)
	}
	api.WriteProblem(c, p)
}

// refuseDelay refuses for topics and messages, whose errors name them.
func (h *replier) refuseDelay(c *gin.Context, err error) {
	code := codeOf(err)
	if bad, ok := errors.AsType[invalid.Error](err); ok {
		api.WriteProblem(c, api.InvalidRequest(api.FieldErrors(bad)...))
		return
	}
	if code != api.CodeNotFound && code != api.CodeQueueFull {
		h.refuse(c, err)
		return
	}
	p := api.NewProblem(code, err.Error())
	p.RetryAfter = time.Second
	api.WriteProblem(c, p)
}

// unchanged reports whether err says that nothing has changed: the admin log then takes back what was to be done.
func unchanged(err error) bool {
	code := codeOf(err)
	return errors.Is(err, inventory.ErrBusy) || errors.Is(err, queue.ErrNotReady) || code != api.CodeUnavailable &&
		code != api.CodeInternal
}

// codeOf returns the code of an error. It knows what goes wrong when settings change, and leaves
// the rest to api.CodeOf.
func codeOf(err error) api.Code {
	switch {
	case errors.Is(err, settings.ErrVersion):
		return api.CodeStale
	case errors.Is(err, settings.ErrNoVersion):
		return api.CodeNotFound
	case errors.Is(err, settings.ErrUnknown):
		return api.CodeUnavailable
	}
	return api.CodeOf(err)
}

// saleChecker refuses what is asked of sales that do not exist.
type saleChecker struct {
	replier
	saleStore *inventory.SaleStore
}

// checkSale refuses a sale that does not exist, before anything is kept under its name.
func (h *saleChecker) checkSale(c *gin.Context, id string) bool {
	if !queue.ValidSaleID(id) {
		h.refuse(c, fmt.Errorf("%q: %w", id, inventory.ErrNoSale))
		return false
	}
	if _, _, err := h.saleStore.Get(c.Request.Context(), id); err != nil {
		h.refuse(c, err)
		return false
	}
	return true
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/gateway/server"
)

// Check is one thing readiness depends on.
type Check struct {
	Name string
	Ask  func(ctx context.Context) error
	Note func() string // what a passed check adds to its line; may be nil
}

const readyTimeout = 2 * time.Second

// errCheck is the answer of a check that has panicked.
var errCheck = errors.New("the check broke; see the log")

// health answers whether this process is ready.
type health struct {
	checks   []Check
	draining func() bool
	panics   *server.Panics
}

// ready asks every part at once; liveness asks none of them, because
// restarting this process would not bring a store back.
func (h *health) ready(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	answers := make([]error, len(h.checks))
	done := make(chan int, len(h.checks))
	for i, check := range h.checks {
		go func() {
			defer func() { done <- i }()
			defer h.panics.Catch("readiness")
			answers[i] = errCheck // unless it answers
			answers[i] = check.Ask(ctx)
		}()
	}
	for range h.checks {
		<-done
	}
	status, text := http.StatusOK, strings.Builder{}
	line := func(name string, err error) {
		if err != nil {
			status = http.StatusServiceUnavailable
			fmt.Fprintf(&text, "[-]%s: %v\n", name, err)
			return
		}
		fmt.Fprintf(&text, "[+]%s ok\n", name)
	}
	for i, check := range h.checks {
		name := check.Name
		if check.Note != nil {
			name += " (" + check.Note() + ")"
		}
		line(name, answers[i])
	}
	if h.draining() {
		line("serving", fmt.Errorf("draining"))
	} else {
		line("serving", nil)
	}
	if _, verbose := c.GetQuery("verbose"); !verbose && status == http.StatusOK {
		c.String(status, "ok\n")
		return
	}
	c.String(status, text.String())
}

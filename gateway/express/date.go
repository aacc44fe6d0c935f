package express

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clock formats the Date header once a second.
type clock struct{ last atomic.Pointer[dateLine] }

type dateLine struct {
	second int64
	text   string
}

func (c *clock) line() string {
	now := time.Now()
	if last := c.last.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	next := &dateLine{second: now.Unix(), text: "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	c.last.Store(next)
	return next.text
}

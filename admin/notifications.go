package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/api"
	"sluice/notify"
)

// stateNames returns the states of notifications in words.
func stateNames() map[string]int {
	return map[string]int{"pending": notify.StatePending, "delivered": notify.StateDelivered, "dead": notify.StateDead,
		"overtaken": notify.StateOvertaken}
}

const maxChannel = 16 // characters

// notifications answers for the outbox.
type notifications struct {
	replier
	outbox   *notify.Admin
	adminLog *adminlog.Log
}

func (h *notifications) routes(group gin.IRoutes) {
	group.GET("/notifications", h.listNotifications)
	group.POST("/notifications/retry", h.retryNotifications)
}

// listNotifications pages through the outbox: the dead ones unless another state is asked for.
func (h *notifications) listNotifications(c *gin.Context) {
	limit, bad := api.PageSize(c)
	state := c.DefaultQuery("state", "dead")
	number, ok := stateNames()[state]
	if !ok {
		bad = append(bad, api.Field("state", "must be pending, delivered, dead or overtaken"))
	}
	channel, cursor := c.Query("channel"), c.Query("cursor")
	if len(channel) > maxChannel || !api.Printable(channel) {
		bad = append(bad, api.Field("channel", "must be the name of a channel"))
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	rows, next, err := h.outbox.List(c.Request.Context(), number, channel, cursor, limit)
	if errors.Is(err, notify.ErrBadCursor) {
		api.WriteProblem(c, api.InvalidRequest(api.BadCursor()))
		return
	}
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.NotificationList{Notifications: make([]api.Notification, len(rows)), NextCursor: next}
	for i, r := range rows {
		list.Notifications[i] = notificationBodyOf(r, state)
	}
	c.JSON(http.StatusOK, list)
}

func notificationBodyOf(r notify.Row, state string) api.Notification {
	b := api.Notification{OrderID: r.OrderID, Event: r.Event, Channel: r.Channel, SaleID: r.SaleID, UserID: r.UserID,
		State:    state,
		Attempts: r.Attempts, CreatedAt: api.FormatTime(time.UnixMilli(r.CreatedAt)), LastError: r.LastError}
	switch r.State {
	case notify.StatePending:
		b.DueAt = api.FormatTime(time.UnixMilli(r.Due()))
	case notify.StateDelivered:
		b.DeliveredAt = api.FormatTime(time.UnixMilli(r.DeliveredAt))
	case notify.StateOvertaken:
		b.OvertakenAt = api.FormatTime(time.UnixMilli(r.DeliveredAt))
	}
	return b
}

func checkRetry(b api.NotificationRetry) []api.FieldError {
	var bad []api.FieldError
	if b.Channel == "" || len(b.Channel) > maxChannel || !api.Printable(b.Channel) {
		bad = append(bad, api.Field("channel", "must be the name of a channel"))
	}
	if b.Reason == "" || len([]rune(b.Reason)) > 200 || !api.Printable(b.Reason) {
		bad = append(bad, api.Field("reason", "must say why, in at most 200 characters without control characters"))
	}
	one := b.OrderID != "" && b.Event != "" && len(b.OrderID) <= 64 && len(b.Event) <= 32 &&
		api.Printable(b.OrderID+b.Event)
	if b.All == one || b.All && b.OrderID+b.Event != "" {
		bad = append(bad, api.Field("all", "must be true, or order_id and event must name one notification"))
	}
	return bad
}

func (h *notifications) retryNotifications(c *gin.Context) {
	var body api.NotificationRetry
	if !h.read(c, &body) {
		return
	}
	if bad := checkRetry(body); len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	ctx, note := c.Request.Context(), h.noteRetry(actorOf(c), body)
	answer := api.Retried{Retried: 1}
	var err error
	if body.All {
		answer.Retried, answer.More, err = h.outbox.RetryAll(ctx, body.Channel, note)
	} else {
		err = h.outbox.Retry(ctx, body.OrderID, body.Event, body.Channel, note)
	}
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, answer)
}

// notificationImage is one notification, or a number of them, as the admin log shows it.
type notificationImage struct {
	Channel  string   `json:"channel"`
	Event    string   `json:"event"`
	State    string   `json:"state"`
	Attempts int      `json:"attempts"`
	Error    string   `json:"last_error,omitempty"`
	Count    int64    `json:"count,omitempty"`
	Orders   []string `json:"orders,omitempty"` // of a number of them, the first ones
}

// noteRetry writes into the admin log which notifications are due again. One stands under its order, all of a channel
// under the channel.
func (h *notifications) noteRetry(actor string, body api.NotificationRetry) notify.LogChange {
	return func(tx *gorm.DB, rows []notify.Row, n int64) error {
		first := rows[0]
		act := adminlog.Act{Actor: actor, Action: "notifications.retry", Target: body.Channel, Reason: body.Reason}
		was := notificationImage{Channel: first.Channel, Event: first.Event, State: "dead"}
		if body.All {
			was.Count = n
			for _, r := range rows {
				was.Orders = append(was.Orders, r.OrderID)
			}
		} else {
			act.Sale, act.Target = first.SaleID, first.OrderID
			was.Attempts, was.Error = first.Attempts, first.LastError
		}
		is := was
		is.State, is.Attempts, is.Error = "pending", 0, ""
		return h.adminLog.Write(tx, act, was, is)
	}
}

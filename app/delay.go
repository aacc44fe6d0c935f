package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/notify"
)

// openDelay creates what keeps and delivers delayed messages.
func (a *App) openDelay(reg prometheus.Registerer) (err error) {
	a.messages = delay.NewStore(delay.StoreParts{Config: a.cfg.Delay, Redis: a.redis.Client,
		Prefix: a.cfg.Redis.Prefix, Durable: a.durability.Check, Now: a.opt.Now})
	a.topics = delay.NewTopics(delay.TopicsParts{Config: a.cfg.Delay, DB: a.db, Messages: a.messages,
		Events: notify.Events(), NoMail: !a.cfg.Notify.Email.Mails(), Log: a.part("topics"), Now: a.opt.Now})
	if a.opt.Roles.Notifier {
		a.dispatcher, err = delay.NewDispatcher(delay.DispatcherParts{Config: a.cfg.Delay, Topics: a.topics,
			Messages: a.messages, OnDead: a.reportDead, Blocked: a.guard.Err, Log: a.part("delay"), Now: a.opt.Now,
			Registry: reg})
		if err == nil {
			a.onStop("pool of callers", func(context.Context) error { return a.dispatcher.Close() })
		}
	}
	return err
}

// reportDead tells operators, and the topic's own address, that delayed messages became dead letters.
func (a *App) reportDead(ctx context.Context, d delay.DeadReport) {
	a.part("delay").ErrorContext(ctx, "delayed messages became dead letters", "topic", d.Topic.Name, "owner",
		d.Topic.Owner,
		"count", d.Count, "message", d.ID, "error", d.Error)
	cause := "delayed messages of topic " + d.Topic.Name
	a.channels.Alerts.Add(cause, d.Count)
	if d.Topic.Alert != "" && !a.channels.Alerts.AddTo(d.Topic.Alert, cause, d.Count) {
		a.part("delay").WarnContext(ctx,
			"the topic's alert address is not told: no notify.email.addr, or too many addresses at once",
			"topic", d.Topic.Name)
	}
}

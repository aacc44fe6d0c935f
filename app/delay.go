package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/notify"
)

// openDelay puts together what keeps and fires delayed messages.
func (a *App) openDelay(reg prometheus.Registerer) (err error) {
	a.messages = delay.NewBox(a.cfg.Delay, a.redis.Client, a.cfg.Redis.Prefix, a.durability.Check, a.opt.Now)
	a.topics = delay.NewTopics(a.cfg.Delay, a.db, a.messages, notify.Events(), a.part("topics"), a.opt.Now)
	if !a.cfg.Notify.Email.Mails() {
		a.topics.Mute()
	}
	if a.opt.Roles.Notifier {
		a.firer, err = delay.NewFirer(a.cfg.Delay, a.topics, a.messages, a.buried, a.part("delay"), a.opt.Now, reg)
		if err == nil {
			a.onStop("pool of callers", func(context.Context) error { return a.firer.Close() })
			a.firer.Bar(a.guard.Err)
		}
	}
	return err
}

// buried tells operators, and the topic's own address, that delayed messages became dead letters.
func (a *App) buried(ctx context.Context, d delay.Death) {
	a.part("delay").ErrorContext(ctx, "delayed messages became dead letters", "topic", d.Topic.Name, "owner", d.Topic.Owner,
		"count", d.Count, "message", d.ID, "error", d.Error)
	cause := "delayed messages of topic " + d.Topic.Name
	a.channels.Alerts.Add(cause, d.Count)
	if d.Topic.Alert != "" && !a.channels.Alerts.AddTo(d.Topic.Alert, cause, d.Count) {
		a.part("delay").WarnContext(ctx, "the topic's alert address is not told: no notify.email.addr, or too many addresses at once", "topic", d.Topic.Name)
	}
}

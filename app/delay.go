package app

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/delay/push"
	"sluice/delay/stores"
	"sluice/notify"
	"sluice/store/redis"
)

// openDelay creates the topics, their messages and the dispatcher.
func (a *App) openDelay(ctx context.Context, reg prometheus.Registerer) (err error) {
	if err = a.openDelayStores(ctx, reg); err != nil {
		return err
	}
	a.messages = message.NewStore(message.StoreParts{Config: a.cfg.Delay, Places: a.delayStores.Places(),
		Prefix: a.cfg.Redis.Prefix, Now: a.opt.Now})
	checks, senders, channels := map[string]publish.BodyCheck{}, map[string]push.Channel{}, []string{}
	for name, sender := range a.channels.Own() {
		checks[name], senders[name], channels = sender.CheckBody, sender, append(channels, name)
	}
	a.topics = delay.NewTopics(delay.TopicsParts{Config: a.cfg.Delay, DB: a.db, Messages: a.messages,
		Events: notify.Events(), Channels: channels, NoMail: !a.cfg.Notify.Email.Mails(), OnLoss: a.reportLoss(reg),
		Log: a.logFor("topics"), Now: a.opt.Now})
	a.publisher = publish.New(a.topics, a.messages).CheckBodies(checks)
	if a.opt.Roles.Notifier {
		a.dispatcher, err = push.NewDispatcher(push.DispatcherParts{Config: a.cfg.Delay, Topics: a.topics,
			Messages: a.messages, Channels: senders, OnDead: a.reportDead, OnFull: a.reportFull, OnDown: a.reportDown,
			Blocked: a.guard.Err, Log: a.logFor("delay"), Now: a.opt.Now, Registry: reg})
		if err == nil {
			a.onStop("pool of callers", func(context.Context) error { return a.dispatcher.Close() })
		}
	}
	return err
}

// openDelayStores opens the Redis that keep delayed messages.
func (a *App) openDelayStores(ctx context.Context, reg prometheus.Registerer) (err error) {
	p := stores.Parts{Config: a.cfg.Delay, Main: a.redis, Durability: a.durability, Prefix: a.cfg.Redis.Prefix,
		Mine: a.guard.Claim, Log: a.logFor("delay"), Registry: reg}
	if a.alerts() {
		p.Tell = a.reportStore
	}
	if a.delayStores, err = stores.Open(ctx, p); err != nil {
		return err
	}
	a.onStop("stores of delayed messages", func(context.Context) error { return a.delayStores.Close() })
	if private := a.delayStores.Private(); len(private) > 0 && !a.alone() {
		return fmt.Errorf("store %s of delayed messages runs inside one process, which the main Redis does not: "+
			"give it delay.stores.%s.addrs (delay.redis.addrs for the store default)", private[0], private[0])
	}
	return nil
}

// alone reports whether no other process can share the main Redis with this one.
func (a *App) alone() bool {
	return a.redis.Mode == redis.ModeEmbedded || a.redis.Mode == redis.ModeManaged
}

// alerts reports whether this process tells operators what they must know.
func (a *App) alerts() bool { return a.opt.Roles.Notifier || a.opt.Roles.Gateway && a.cfg.Work.On() }

// reportStore tells operators that a store of delayed messages does not answer, or does again.
func (a *App) reportStore(store string, why error) {
	if why == nil {
		a.channels.Alerts.Add("store "+store+" of delayed messages answers again", 1)
		return
	}
	a.channels.Alerts.Add("store "+store+" of delayed messages does not answer: its topics wait", 1)
}

// reportLoss returns what counts the messages that stores have lost and tells operators of them.
func (a *App) reportLoss(reg prometheus.Registerer) func(context.Context, delay.Loss) {
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_delay_lost_total",
		Help: "Unfinished delayed messages that a store no longer knew, at most, as found by this process."},
		[]string{"store"})
	for _, name := range a.cfg.Delay.StoreNames() {
		lost.WithLabelValues(name)
	}
	reg.MustRegister(lost)
	return func(_ context.Context, loss delay.Loss) {
		lost.WithLabelValues(loss.Store).Add(float64(loss.Messages))
		if loss.Messages > 0 {
			a.channels.Alerts.Add("messages of topic "+loss.Topic+" that store "+loss.Store+" has lost, at most",
				loss.Messages)
		}
	}
}

// reportDead tells operators, and the subscription's own address, that delayed messages became dead letters.
func (a *App) reportDead(ctx context.Context, d message.DeadReport) {
	a.logFor("delay").ErrorContext(ctx, "delayed messages became dead letters", "topic", d.Subscription.Topic,
		"subscription", d.Subscription.Name, "owner", d.Subscription.Owner,
		"count", d.Count, "message", d.ID, "error", d.Error)
	a.alertReceiver(ctx, d.Subscription, "delayed messages of "+d.Subscription.Title(), d.Count)
}

// reportFull tells operators, and the subscription's own address, that a subscription is filling up or missed messages.
func (a *App) reportFull(ctx context.Context, f push.FullReport) {
	a.logFor("delay").WarnContext(ctx, "a subscription is filling up: its messages are taken too slowly", "topic",
		f.Subscription.Topic, "subscription", f.Subscription.Name, "owner", f.Subscription.Owner,
		"unfinished", f.Unfinished, "missed", f.Missed)
	if f.Missed > 0 {
		a.alertReceiver(ctx, f.Subscription, "messages that "+f.Subscription.Title()+" missed because it is full",
			f.Missed)
		return
	}
	a.alertReceiver(ctx, f.Subscription, f.Subscription.Title()+" is filling up: unfinished messages", f.Unfinished)
}

// reportDown tells operators, and the subscription's own address, that a receiver fails for long.
func (a *App) reportDown(ctx context.Context, r push.DownReport) {
	a.alertReceiver(ctx, r.Subscription, "the receiver of "+r.Subscription.Title()+" fails, its messages wait", 1)
}

func (a *App) alertReceiver(ctx context.Context, sub delay.Subscription, cause string, n int64) {
	a.channels.Alerts.Add(cause, n)
	if sub.Alert != "" && !a.channels.Alerts.AddTo(sub.Alert, cause, n) {
		a.logFor("delay").WarnContext(ctx,
			"a subscription's alert address is not told: no notify.email.addr, or too many addresses at once",
			"topic", sub.Topic, "subscription", sub.Name)
	}
}

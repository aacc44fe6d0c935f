// Package channel holds the ways out of the outbox: the event stream, e-mail, SMS and the shop's webhook. It also
// gives the alerts of operators their ways.
package channel

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"sluice/internal/cloudevent"
	"sluice/notify"
	"sluice/notify/alert"
)

// Set is the channels that a configuration enables, and the alerts.
type Set struct {
	Stream *Stream
	Alerts *alert.Alerts

	senders []*Sender
	mailer  *Mailer // of e-mail alerts; nil without a server
}

// Parts is what Open needs.
type Parts struct {
	Config   Config // validated
	Redis    redis.UniversalClient
	LookUp   notify.Recipients
	Ledger   notify.Ledger
	Log      *slog.Logger
	Now      func() time.Time
	Registry prometheus.Registerer // nil: metrics are registered nowhere
	Prefix   string                // redis.prefix, which names this installation in CloudEvents
	Journal  string                // the key in Redis of unsent alerts; empty: a restart forgets them
}

// Open returns the enabled channels. It opens no connection before the first delivery.
func Open(p Parts) (s *Set, err error) {
	cfg := p.Config
	s = &Set{Stream: NewStream(cfg.Stream, p.Redis, p.Ledger)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	templates, err := NewTemplates(cfg.Templates, cfg.Locale, cfg.TimeZone)
	if err != nil {
		return s, err
	}
	enabled, err := enabledTransports(p, templates)
	if err != nil {
		return s, err
	}
	for _, e := range enabled {
		sender, err := newSender(e.cfg, e.transport, p.LookUp, p.Log)
		if err != nil {
			return s, err
		}
		s.senders = append(s.senders, sender)
	}
	if cfg.Email.Mails() {
		if s.mailer, err = NewMailer(cfg.Email, p.Now); err != nil {
			return s, err
		}
	}
	s.Alerts, err = s.openAlerts(p)
	return s, err
}

// openAlerts gives alerts their ways: the mail server of the e-mail channel, and a webhook of their own.
func (s *Set) openAlerts(p Parts) (*alert.Alerts, error) {
	cfg := p.Config.Alert
	parts := alert.Parts{Config: cfg, Log: p.Log, Now: p.Now, Registry: p.Registry, Redis: p.Redis,
		Journal: p.Journal}
	if s.mailer != nil {
		parts.Mail = func(ctx context.Context, l alert.Letter) notify.Result {
			return s.mailer.Send(ctx, Mail{ID: l.ID, To: []string{l.To}, Subject: l.Subject, Text: l.Text})
		}
	}
	if cfg.URL == "" {
		return alert.New(parts), nil
	}
	hook, err := newWebhook(WebhookConfig{SenderConfig: SenderConfig{Timeout: alert.Timeout, Workers: 1},
		URL: cfg.URL, Secrets: cfg.Secrets, AllowPrivate: cfg.AllowPrivate}, p.Now)
	if err != nil {
		return nil, err
	}
	parts.Post = func(ctx context.Context, id string, body []byte) notify.Result {
		defer hook.close() // alerts are rare: the connection is closed each time
		return hook.post(ctx, id, cloudevent.Attributes{}, body)
	}
	return alert.New(parts), nil
}

// enabledTransport is a transport with the configuration of its channel.
type enabledTransport struct {
	cfg       SenderConfig
	transport transport
}

func enabledTransports(p Parts, templates *Templates) ([]enabledTransport, error) {
	cfg := p.Config
	var list []enabledTransport
	if cfg.Email.Enabled {
		mailer, err := NewMailer(cfg.Email, p.Now)
		if err != nil {
			return nil, err
		}
		list = append(list, enabledTransport{cfg.Email.SenderConfig, &emailTransport{mailer, templates}})
	}
	if cfg.SMS.Enabled {
		sms, err := newSMS(cfg.SMS, templates, p.Log, p.Now)
		if err != nil {
			return nil, err
		}
		list = append(list, enabledTransport{cfg.SMS.SenderConfig, sms})
	}
	if cfg.Webhook.Enabled {
		hook, err := newWebhook(cfg.Webhook, p.Now)
		if err != nil {
			return nil, err
		}
		hook.prefix = p.Prefix
		list = append(list, enabledTransport{cfg.Webhook.SenderConfig, hook})
	}
	return list, nil
}

// All returns every channel, the event stream first.
func (s *Set) All() []notify.Channel {
	all := []notify.Channel{s.Stream}
	for _, sender := range s.senders {
		all = append(all, sender)
	}
	return all
}

// SetRates applies the rates of a changed, valid configuration, and nothing else of it. Safe for concurrent use.
func (s *Set) SetRates(cfg Config) {
	rates := map[string]float64{"email": cfg.Email.Rate, "sms": cfg.SMS.Rate, "webhook": cfg.Webhook.Rate}
	for _, sender := range s.senders {
		sender.SetRate(rates[sender.Name()])
	}
}

// Close closes pools and connections. Call it when the relay and the alerts have stopped.
func (s *Set) Close() error {
	var errs []error
	for _, sender := range s.senders {
		errs = append(errs, sender.close())
	}
	if s.mailer != nil {
		s.mailer.Close()
	}
	return errors.Join(errs...)
}

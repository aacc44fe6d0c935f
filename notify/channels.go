package notify

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Channels are the ways out that a configuration enables.
type Channels struct {
	Stream *Stream
	Alerts *Alerts

	outlets []*Outlet
	mailer  *Mailer // of e-mail alerts; nil without a server
}

// OpenChannels takes a validated Config. Nothing is connected before the first delivery. Metrics go to reg (nil: nowhere).
func OpenChannels(cfg Config, rdb redis.UniversalClient, lookup Recipients, log *slog.Logger, now func() time.Time, reg prometheus.Registerer) (c *Channels, err error) {
	c = &Channels{Stream: NewStream(cfg.Stream, rdb)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	wording, err := NewWording(cfg.Templates, cfg.Locale, cfg.TimeZone)
	if err != nil {
		return c, err
	}
	senders, err := sendersOf(cfg, wording, log, now)
	if err != nil {
		return c, err
	}
	for _, s := range senders {
		outlet, err := newOutlet(s.cfg, s.sender, lookup, log)
		if err != nil {
			return c, err
		}
		c.outlets = append(c.outlets, outlet)
	}
	if cfg.Email.Mails() {
		if c.mailer, err = NewMailer(cfg.Email, now); err != nil {
			return c, err
		}
	}
	c.Alerts, err = NewAlerts(cfg.Alert, c.mailer, log, now, reg)
	return c, err
}

type configured struct {
	cfg    OutletConfig
	sender sender
}

func sendersOf(cfg Config, wording *Wording, log *slog.Logger, now func() time.Time) ([]configured, error) {
	var list []configured
	if cfg.Email.Enabled {
		mailer, err := NewMailer(cfg.Email, now)
		if err != nil {
			return nil, err
		}
		list = append(list, configured{cfg.Email.OutletConfig, &email{mailer, wording}})
	}
	if cfg.SMS.Enabled {
		s, err := newSMS(cfg.SMS, wording, log, now)
		if err != nil {
			return nil, err
		}
		list = append(list, configured{cfg.SMS.OutletConfig, s})
	}
	if cfg.Webhook.Enabled {
		w, err := newWebhook(cfg.Webhook, now)
		if err != nil {
			return nil, err
		}
		list = append(list, configured{cfg.Webhook.OutletConfig, w})
	}
	return list, nil
}

// All returns every channel, the event stream first.
func (c *Channels) All() []Channel {
	all := []Channel{c.Stream}
	for _, o := range c.outlets {
		all = append(all, o)
	}
	return all
}

// SetRates takes over the rates of a changed, valid configuration; nothing else of it. It may be called at any time.
func (c *Channels) SetRates(cfg Config) {
	rates := map[string]float64{"email": cfg.Email.Rate, "sms": cfg.SMS.Rate, "webhook": cfg.Webhook.Rate}
	for _, o := range c.outlets {
		o.SetRate(rates[o.Name()])
	}
}

// Close ends pools and connections. Call it when the relay and the alerts have stopped.
func (c *Channels) Close() error {
	var errs []error
	for _, o := range c.outlets {
		errs = append(errs, o.close())
	}
	if c.mailer != nil {
		c.mailer.Close()
	}
	return errors.Join(errs...)
}

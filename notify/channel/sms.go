package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sluice/internal/phone"
	"sluice/notify"
	"sluice/notify/webhook"
)

// The providers of channel "sms".
const (
	SMSDryRun  = "dry-run" // sends nothing; logs that it would have
	SMSGeneric = "http"
	SMSAliyun  = "aliyun"
	SMSTwilio  = "twilio"
)

// SMS is one text message.
type SMS struct {
	ID    string // the same at every try
	To    string // the phone number
	Text  string // in the recipient's language
	Facts Facts  // of an order, for providers that have templates of their own

	Template string         // of a message of the shop's own; empty: it has a text
	Data     map[string]any // for that template
}

// SMSProvider sends texts. Send is called by many goroutines, at least once for each message. It neither logs the
// number nor quotes it in its Result.
type SMSProvider interface {
	Send(ctx context.Context, s SMS) notify.Result
}

// SMSConfig configures the channel "sms".
type SMSConfig struct {
	SenderConfig `koanf:",squash"`
	// Provider is dry-run, http, aliyun or twilio. Defaults to dry-run.
	Provider string `koanf:"provider"`
	// DefaultRegion is where phone numbers without + and country code belong, two letters such as CN. Defaults to none:
	// such numbers are refused.
	DefaultRegion string `koanf:"default_region"`
	// HTTP is the generic provider.
	HTTP SMSHTTPConfig `koanf:"http"`
	// Aliyun is the provider of Alibaba Cloud.
	Aliyun AliyunConfig `koanf:"aliyun"`
	// Twilio is the provider of that name.
	Twilio TwilioConfig `koanf:"twilio"`
}

// DefaultSMSConfig returns the documented defaults.
func DefaultSMSConfig() SMSConfig {
	return SMSConfig{
		SenderConfig: DefaultSenderConfig(), Provider: SMSDryRun, HTTP: SMSHTTPConfig{Method: http.MethodPost},
		Aliyun: AliyunConfig{Endpoint: "https://dysmsapi.aliyuncs.com"},
		Twilio: TwilioConfig{Endpoint: "https://api.twilio.com"},
	}
}

func (c SMSConfig) check(batch time.Duration) error {
	_, region := phone.PlanOf(c.DefaultRegion)
	if region != nil {
		region = fmt.Errorf("notify.sms.default_region: %w", region)
	}
	if !c.Enabled { // numbers are read all the same
		return region
	}
	_, err := newSMSProvider(c, slog.New(slog.DiscardHandler), http.DefaultClient, time.Now)
	return errors.Join(c.SenderConfig.check("sms", batch), region, err)
}

func newSMSProvider(c SMSConfig, log *slog.Logger, client *http.Client, now func() time.Time) (SMSProvider, error) {
	switch c.Provider {
	case SMSDryRun:
		return dryRun{log}, nil
	case SMSGeneric:
		return newSMSHTTP(c.HTTP, client, now)
	case SMSAliyun:
		return newAliyun(c.Aliyun, client, now)
	case SMSTwilio:
		return newTwilio(c.Twilio, client, now)
	}
	return nil, fmt.Errorf("notify.sms.provider: %q is unknown, use dry-run, http, aliyun or twilio", c.Provider)
}

// dryRun logs that a text would have been sent.
type dryRun struct{ log *slog.Logger }

func (d dryRun) Send(ctx context.Context, s SMS) notify.Result {
	d.log.InfoContext(ctx, "notify: sms not sent, the provider is dry-run", "id", s.ID, "phone", maskPhone(s.To))
	return notify.Skipped("the provider is dry-run")
}

// maskPhone hides all but the last two digits of a phone number. They suffice to tell two test phones apart.
func maskPhone(phone string) string {
	if len(phone) < 8 {
		return "***"
	}
	return "***" + phone[len(phone)-2:]
}

// smsTransport sends each message as a text, from a template.
type smsTransport struct {
	provider  SMSProvider
	templates *Templates
	plan      phone.Plan // of notify.sms.default_region
	client    *http.Client
}

// newSMS returns the channel's transport. The provider's address may be private: it comes from the configuration, not
// from users.
func newSMS(cfg SMSConfig, templates *Templates, log *slog.Logger, now func() time.Time) (*smsTransport, error) {
	client := webhook.GuardedClient(cfg.Timeout, cfg.Workers, true)
	provider, err := newSMSProvider(cfg, log, client, now)
	plan, wrong := phone.PlanOf(cfg.DefaultRegion)
	return &smsTransport{provider, templates, plan, client}, errors.Join(err, wrong)
}

func (s *smsTransport) name() string { return "sms" }

func (s *smsTransport) close() { s.client.CloseIdleConnections() }

func (s *smsTransport) latest() bool { return true }

func (s *smsTransport) reaches(to notify.Recipient) string {
	if to.Phone == "" {
		return "no phone number was given"
	}
	return ""
}

func (s *smsTransport) send(ctx context.Context, m notify.Message, to notify.Recipient) notify.Result {
	text, err := s.templates.text(m, to)
	if err != nil {
		return notify.Permanent("there is no sms template for this event")
	}
	return s.provider.Send(ctx, SMS{ID: m.ID(), To: to.Phone, Text: text, Facts: s.templates.facts(m, to)})
}

package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
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
	Text  string // worded in the recipient's language
	Facts Facts  // for providers that word it themselves
}

// SMSProvider hands texts to somebody who sends them. Send is called by many goroutines, at least once for a message, and neither
// logs the number nor quotes it in its Result.
type SMSProvider interface {
	Send(ctx context.Context, s SMS) Result
}

// SMSConfig is the channel "sms".
type SMSConfig struct {
	OutletConfig `koanf:",squash"`
	// Provider is dry-run, http, aliyun or twilio. Defaults to dry-run.
	Provider string `koanf:"provider"`
	// HTTP is the generic provider.
	HTTP SMSHTTPConfig `koanf:"http"`
	// Aliyun is the provider of Alibaba Cloud.
	Aliyun AliyunConfig `koanf:"aliyun"`
	// Twilio is the provider of that name.
	Twilio TwilioConfig `koanf:"twilio"`
}

// DefaultSMSConfig holds the documented defaults.
func DefaultSMSConfig() SMSConfig {
	return SMSConfig{OutletConfig: DefaultOutletConfig(), Provider: SMSDryRun, HTTP: SMSHTTPConfig{Method: http.MethodPost},
		Aliyun: AliyunConfig{Endpoint: "https://dysmsapi.aliyuncs.com"}, Twilio: TwilioConfig{Endpoint: "https://api.twilio.com"}}
}

func (c SMSConfig) check(batch time.Duration) error {
	if !c.Enabled {
		return nil
	}
	_, err := newSMSProvider(c, slog.New(slog.DiscardHandler), http.DefaultClient, time.Now)
	return errors.Join(c.OutletConfig.check("sms", batch), err)
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

// dryRun shows that a text would have been sent.
type dryRun struct{ log *slog.Logger }

func (d dryRun) Send(ctx context.Context, s SMS) Result {
	d.log.InfoContext(ctx, "notify: sms not sent, the provider is dry-run", "id", s.ID, "phone", masked(s.To))
	return Skipped("the provider is dry-run")
}

// sms words a message and gives it to the provider.
type sms struct {
	provider SMSProvider
	wording  *Wording
	client   *http.Client
}

// newSMS trusts the provider's address like the rest of the configuration: a gateway may well be inside the shop's own network.
func newSMS(cfg SMSConfig, wording *Wording, log *slog.Logger, now func() time.Time) (*sms, error) {
	client := GuardedClient(cfg.Timeout, true)
	provider, err := newSMSProvider(cfg, log, client, now)
	return &sms{provider, wording, client}, err
}

func (s *sms) name() string { return "sms" }

func (s *sms) close() { s.client.CloseIdleConnections() }

func (s *sms) latest() bool { return true }

func (s *sms) reaches(to Recipient) string {
	if to.Phone == "" {
		return "no phone number was given"
	}
	return ""
}

func (s *sms) send(ctx context.Context, m Message, to Recipient) Result {
	text, err := s.wording.text(m, to)
	if err != nil {
		return Permanent("there is no sms template for this event")
	}
	return s.provider.Send(ctx, SMS{ID: m.ID(), To: to.Phone, Text: text, Facts: s.wording.facts(m, to)})
}

package alert

import (
	"errors"
	"fmt"
	"net/mail"
	"time"

	"sluice/notify/webhook"
)

// Config says who is alerted when notifications or delayed messages are given up.
type Config struct {
	// Emails are the addresses that get alerts, through the server of notify.email. The channel itself need not be
	// enabled.
	Emails []string `koanf:"emails"`
	// URL is called with a signed POST. Empty: none.
	URL string `koanf:"url" secret:"true"`
	// Secrets sign the call (Standard Webhooks). Required with URL.
	Secrets []string `koanf:"secrets"`
	// AllowPrivate lets the URL lead to loopback and private addresses. Defaults to false.
	AllowPrivate bool `koanf:"allow_private"`
	// Interval is the least time between two alerts to one receiver. Causes in between are counted into the next.
	// Defaults to 10m.
	Interval time.Duration `koanf:"interval"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config { return Config{Interval: 10 * time.Minute} }

// Check returns every bad value, named by its key; mails says whether there is a mail server.
func (c Config) Check(mails bool) error {
	var errs []error
	for _, address := range c.Emails {
		if _, err := mail.ParseAddress(address); err != nil {
			errs = append(errs, errors.New("notify.alert.emails: holds something that is no e-mail address"))
		}
	}
	if len(c.Emails) > 0 && !mails {
		errs = append(errs, errors.New("notify.email.addr: alerts by e-mail need an SMTP server, host:port"))
	}
	if c.URL != "" {
		errs = append(errs, webhook.CheckURL("notify.alert.url", c.URL))
		if _, err := webhook.NewSigner(c.Secrets...); err != nil {
			errs = append(errs, fmt.Errorf("notify.alert.secrets: %w", err))
		}
	}
	if c.Interval < time.Second || c.Interval > 24*time.Hour {
		errs = append(errs, fmt.Errorf("notify.alert.interval: %v is out of range, use 1s to 24h", c.Interval))
	}
	return errors.Join(errs...)
}

package channel

import (
	"errors"
	"fmt"
	"time"

	"sluice/notify"
	"sluice/notify/alert"
)

// Config bounds the relay and the channels it delivers to.
type Config struct {
	notify.Config `koanf:",squash"`
	// Stream is the log of order events that other systems read.
	Stream StreamConfig `koanf:"stream"`
	// Locale is the language for shoppers who chose none. Defaults to en.
	Locale string `koanf:"locale"`
	// TimeZone is the zone in which times are shown, an IANA name. Defaults to UTC.
	TimeZone string `koanf:"time_zone"`
	// Templates is a folder whose files replace the shipped ones; see NewTemplates. Defaults to none.
	Templates string `koanf:"templates"`
	// Email, SMS and Webhook are the channels beside the stream; off by default.
	Email   EmailConfig   `koanf:"email"`
	SMS     SMSConfig     `koanf:"sms"`
	Webhook WebhookConfig `koanf:"webhook"`
	// Alert says who is alerted when something is given up.
	Alert alert.Config `koanf:"alert"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Config: notify.DefaultConfig(), Stream: DefaultStreamConfig(), Locale: English, TimeZone: "UTC",
		Email: DefaultEmailConfig(), SMS: DefaultSMSConfig(),
		Webhook: WebhookConfig{SenderConfig: DefaultSenderConfig()},
		Alert:   alert.DefaultConfig(),
	}
}

// Validate returns every bad value, each named by its configuration key. It reads no file: see CheckTemplates.
func (c Config) Validate() error {
	return errors.Join(c.Config.Validate(), c.Stream.Validate(), c.Email.check(c.Timeout), c.SMS.check(c.Timeout),
		c.Webhook.check(c.Timeout), c.Alert.Check(c.Email.Mails()))
}

// CheckTemplates reads the templates and the time zone, as NewTemplates does, and returns what is wrong with them.
func (c Config) CheckTemplates() error {
	_, err := NewTemplates(c.Templates, c.Locale, c.TimeZone)
	return err
}

// CheckRates returns the rates that are out of their bounds. Only rates may change while a Config is used.
func (c Config) CheckRates() error {
	return errors.Join(c.Email.checkRate("email"), c.SMS.checkRate("sms"), c.Webhook.checkRate("webhook"))
}

// SenderConfig bounds one of the channels e-mail, SMS and webhook.
type SenderConfig struct {
	// Enabled sends the events of orders on this channel. Defaults to false.
	Enabled bool `koanf:"enabled"`
	// Workers is how many messages are sent at a time. Defaults to 8.
	Workers int `koanf:"workers"`
	// Rate is how many messages may go out in a second; 0 means no limit. Defaults to 0.
	Rate float64 `koanf:"rate"`
	// Timeout bounds the sending of one message. It must be shorter than notify.timeout. Defaults to 10s.
	Timeout time.Duration `koanf:"timeout"`
	// Failures is how many failures of the receiver in a row pause the channel. Defaults to 5.
	Failures int `koanf:"failures"`
	// Pause is how long the channel waits before it tries one message. Defaults to 30s.
	Pause time.Duration `koanf:"pause"`
}

// DefaultSenderConfig returns the documented defaults.
func DefaultSenderConfig() SenderConfig {
	return SenderConfig{Workers: 8, Timeout: 10 * time.Second, Failures: 5, Pause: 30 * time.Second}
}

// check returns every bad value, named by its key; batch is notify.timeout.
func (c SenderConfig) check(channel string, batch time.Duration) error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("notify.%s.%s: %v is out of range, use %s", channel, key, value, allowed))
		}
	}
	check(c.Workers >= 1 && c.Workers <= 256, "workers", c.Workers, "1 to 256")
	check(c.Timeout > 0 && c.Timeout < batch, "timeout", c.Timeout, "more than 0 and less than notify.timeout")
	check(c.Failures >= 1 && c.Failures <= 1000, "failures", c.Failures, "1 to 1000")
	check(c.Pause > 0 && c.Pause <= time.Hour, "pause", c.Pause, "more than 0, at most 1h")
	return errors.Join(append(errs, c.checkRate(channel))...)
}

// checkRate returns an error that names the rate if it is out of its bounds.
func (c SenderConfig) checkRate(channel string) error {
	if c.Rate >= 0 && c.Rate <= 100_000 {
		return nil
	}
	return fmt.Errorf("notify.%s.rate: %v is out of range, use 0 to 100000", channel, c.Rate)
}

package channel

import (
	"errors"

	"sluice/notify"
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
	Alert AlertConfig `koanf:"alert"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Config: notify.DefaultConfig(), Stream: DefaultStreamConfig(), Locale: English, TimeZone: "UTC",
		Email: DefaultEmailConfig(), SMS: DefaultSMSConfig(),
		Webhook: WebhookConfig{SenderConfig: DefaultSenderConfig()},
		Alert:   DefaultAlertConfig(),
	}
}

// Validate returns every bad value, each named by its configuration key. It reads no file: see CheckTemplates.
func (c Config) Validate() error {
	return errors.Join(c.Config.Validate(), c.Stream.Validate(), c.Email.check(c.Timeout), c.SMS.check(c.Timeout),
		c.Webhook.check(c.Timeout), c.Alert.check(c.Email))
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

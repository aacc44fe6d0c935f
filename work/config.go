package work

import (
	"errors"

	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
)

// Config is the listener for the shop's other systems.
type Config struct {
	// Addr is where it answers. Empty, the default: there is no such listener.
	Addr string `koanf:"addr"`
	// TLSCert and TLSKey are PEM files, read again when they change. Empty: plain HTTP.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// PublishRPS is how many requests about messages each publisher may send to one process a second. 0, the default:
	// any number.
	PublishRPS float64 `koanf:"publish_rps"`
	// PublishBurst is how many of these may come at once. 0, the default: what one second allows.
	PublishBurst int `koanf:"publish_burst"`
	// MaxWaiting is how many receivers may wait for messages in one process. Defaults to 1,000.
	MaxWaiting int `koanf:"max_waiting"`
	// MaxWaitingEach is how many of these may wait for one subscription. Defaults to 200.
	MaxWaitingEach int `koanf:"max_waiting_each"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config { return Config{MaxWaiting: 1000, MaxWaitingEach: 200} }

// On reports whether there is such a listener.
func (c Config) On() bool { return c.Addr != "" }

// Validate returns every bad value, each by its key and with what is allowed.
func (c Config) Validate() error {
	errs := []error{
		server.CheckPair("work", c.TLSCert, c.TLSKey),
		ratelimit.CheckRate("work.publish", c.PublishRPS, c.PublishBurst),
		server.CheckInt("work.max_waiting", c.MaxWaiting, 1, 100_000),
		server.CheckInt("work.max_waiting_each", c.MaxWaitingEach, 1, 100_000),
	}
	if c.On() {
		errs = append(errs, server.CheckAddr("work.addr", c.Addr))
	}
	return errors.Join(errs...)
}

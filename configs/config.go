package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"sluice/delay"
	"sluice/gateway"
	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"
	"sluice/notify/channel"
	"sluice/order/payment"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
	"sluice/store/redis"
	"sluice/trace"
	"sluice/work"
)

// Config is the whole configuration, by section.
type Config struct {
	HTTP     server.HTTPConfig `koanf:"http"`
	Ops      server.OpsConfig  `koanf:"ops"`
	Gateway  gateway.Config    `koanf:"gateway"`
	Auth     auth.Config       `koanf:"auth"`
	Redis    redis.Config      `koanf:"redis"`
	Database store.Config      `koanf:"database"`
	Queue    queue.Config      `koanf:"queue"`
	Pool     worker.PoolConfig `koanf:"pool"`
	Limits   ratelimit.Config  `koanf:"limits"`
	Payment  payment.Config    `koanf:"payment"`
	Notify   channel.Config    `koanf:"notify"`
	Delay    delay.Config      `koanf:"delay"`
	Work     work.Config       `koanf:"work"`
	Log      LogConfig         `koanf:"log"`
	Trace    trace.Config      `koanf:"trace"`
	Stop     StopConfig        `koanf:"stop"`
}

// LogConfig shapes the log on standard error.
type LogConfig struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // json or text
}

// StopConfig bounds the stop of a process.
type StopConfig struct {
	Delay time.Duration `koanf:"delay"` // how long to go on serving after readiness fails; less than grace
	Grace time.Duration `koanf:"grace"` // from the signal to the end of the process; 1s to 10m
}

// Default returns the configuration used where nothing is set. It is valid except for auth: there is no safe default
// for who may sign tokens.
func Default() Config {
	cfg := Config{
		HTTP: server.DefaultHTTPConfig(), Ops: server.DefaultOpsConfig(), Gateway: gateway.DefaultConfig(),
		Auth: auth.DefaultConfig(), Limits: ratelimit.DefaultConfig(),
		Redis: redis.DefaultConfig(), Queue: queue.DefaultConfig(), Pool: worker.DefaultPoolConfig(),
		Database: store.DefaultConfig(), Payment: payment.DefaultConfig(),
		Notify: channel.DefaultConfig(), Delay: delay.DefaultConfig(), Work: work.DefaultConfig(),
		Log: LogConfig{Level: "info", Format: "json"}, Trace: trace.DefaultConfig(),
		Stop: StopConfig{Grace: 25 * time.Second},
	}
	cfg.Auth.Header = "X-User-Id"
	return cfg
}

// Validate returns an error for every value that is not allowed and every bad file that one names, by key.
func (c Config) Validate() error { return errors.Join(c.validate(nil), c.checkFiles(nil)) }

// checkFiles reads the files that values of the named sections, or of all, name. It returns what is wrong with them.
func (c Config) checkFiles(only []string) error {
	if len(only) > 0 && !slices.Contains(only, "notify") {
		return nil
	}
	return c.Notify.CheckTemplates()
}

// CheckHot checks the hot keys alone.
func (c Config) CheckHot() error {
	return errors.Join(c.Queue.Validate(), c.Pool.Validate(), c.Limits.Validate(), c.Log.Validate(),
		c.Notify.CheckRates())
}

// validate checks the named sections, or all sections and their combination. It reads no file.
func (c Config) validate(only []string) error {
	var errs []error
	for _, s := range []struct {
		name  string
		check func() error
	}{
		{"http", c.HTTP.Validate}, {"ops", c.Ops.Validate}, {"gateway", c.Gateway.Validate},
		{"auth", c.Auth.Validate}, {"redis", c.Redis.Validate}, {"database", c.Database.Validate},
		{"queue", c.Queue.Validate}, {"pool", c.Pool.Validate}, {"limits", c.Limits.Validate},
		{"payment", c.Payment.Validate}, {"notify", c.Notify.Validate}, {"delay", c.Delay.Validate},
		{"work", c.Work.Validate},
		{"log", c.Log.Validate}, {"trace", c.Trace.Validate}, {"stop", c.Stop.Validate},
	} {
		if len(only) == 0 || slices.Contains(only, s.name) {
			errs = append(errs, s.check())
		}
	}
	if len(only) == 0 {
		errs = append(errs, gateway.ValidateTogether(c.HTTP, c.Gateway, c.Auth))
	}
	return errors.Join(errs...)
}

// Validate returns an error that names the key and the allowed values.
func (c LogConfig) Validate() error {
	var errs []error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Level) {
		errs = append(errs, fmt.Errorf("log.level must be debug, info, warn or error, got %s", Quote(c.Level)))
	}
	if c.Format != "json" && c.Format != "text" {
		errs = append(errs, fmt.Errorf("log.format must be json or text, got %s", Quote(c.Format)))
	}
	return errors.Join(errs...)
}

// SlogLevel returns the level, or info if it is invalid.
func (c LogConfig) SlogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// Validate returns an error that names the key and the allowed values.
func (c StopConfig) Validate() error {
	if c.Grace < time.Second || c.Grace > 10*time.Minute {
		return fmt.Errorf("stop.grace must be between 1s and 10m, got %s", c.Grace)
	}
	if c.Delay < 0 || c.Delay >= c.Grace {
		return fmt.Errorf("stop.delay must be 0 or more and shorter than stop.grace (%s), got %s", c.Grace, c.Delay)
	}
	return nil
}

// Package payment takes payments for orders: in time, late, and those that must go back.
package payment

import (
	"errors"
	"fmt"
	"time"

	"sluice/notify/webhook"
)

// Config says whether confirmed orders must be paid, and how soon. Payments are on when there is a secret. Without one
// an order that has been confirmed stays so.
type Config struct {
	Timeout time.Duration `koanf:"timeout"` // from the confirmation to the end of an unpaid order; 1s to 24h
	// Secret are the keys of the provider's signatures, whsec_ and base64 of 24 to 64 bytes each.
	// Any of them is good, so that they can be changed.
	Secret []string `koanf:"secret"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config { return Config{Timeout: 15 * time.Minute} }

// On reports whether orders must be paid.
func (c Config) On() bool { return len(c.Secret) > 0 }

// Deadline returns how long an order may stay unpaid; 0 when it need not be paid.
func (c Config) Deadline() time.Duration {
	if !c.On() {
		return 0
	}
	return c.Timeout
}

const mostSecrets = 8

// Validate returns every bad value, each named by its key; a secret is never shown.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout < time.Second || c.Timeout > 24*time.Hour {
		errs = append(errs, fmt.Errorf("payment.timeout must be between 1s and 24h, got %s", c.Timeout))
	}
	if len(c.Secret) > mostSecrets {
		errs = append(errs, fmt.Errorf("payment.secret has %d secrets, %d are allowed", len(c.Secret), mostSecrets))
	}
	if _, err := webhook.NewVerifier(time.Now, c.Secret...); c.On() && err != nil {
		errs = append(errs, fmt.Errorf("payment.secret: %w", err))
	}
	return errors.Join(errs...)
}

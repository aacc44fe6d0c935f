// Package trace exports what happened to sampled orders as OpenTelemetry spans:
// the request, the wait in line, the transaction, each notification.
//
// An order's trace id is its own id, and so is its root span's: every process
// that sees the order can add to its trace, and nothing travels with the ticket.
package trace

import (
	"errors"
	"fmt"
	"math"
	"net/url"
)

// Config says where spans go. Nothing is traced without an endpoint.
type Config struct {
	// Endpoint is the URL of an OTLP collector that speaks HTTP, for example http://127.0.0.1:4318. Defaults to none.
	Endpoint string `koanf:"endpoint"`
	// Sample is the part of the orders that are traced, 0 to 1. It must be the same in every process. Defaults to 0.01.
	Sample float64 `koanf:"sample"`
}

// DefaultConfig traces nothing.
func DefaultConfig() Config { return Config{Sample: 0.01} }

// Validate names the key and what is allowed.
func (c Config) Validate() error {
	var errs []error
	u, err := url.Parse(c.Endpoint)
	if c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, errors.New("trace.endpoint must be the http or https URL of an OTLP collector, "+
			"such as http://127.0.0.1:4318"))
	}
	if math.IsNaN(c.Sample) || c.Sample < 0 || c.Sample > 1 {
		errs = append(errs, fmt.Errorf("trace.sample must be between 0 and 1, got %v", c.Sample))
	}
	return errors.Join(errs...)
}

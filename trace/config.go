// Package trace exports OpenTelemetry spans of sampled orders: the request, the wait in line, the transaction, each
// notification. The ids of an order's trace and root span follow from the order's id. So every process can add to its
// trace, and the ticket needs no trace data.
package trace

import (
	"errors"
	"fmt"
	"math"
	"net/url"
)

// Config says where spans go. Without an endpoint nothing is traced.
type Config struct {
	// Endpoint is the URL of an OTLP collector that speaks HTTP, for example http://127.0.0.1:4318. Defaults to none.
	Endpoint string `koanf:"endpoint"`
	// Sample is the fraction of orders that are traced, 0 to 1. It must be the same in every process. Defaults to 0.01.
	Sample float64 `koanf:"sample"`
}

// DefaultConfig returns a configuration that traces nothing.
func DefaultConfig() Config { return Config{Sample: 0.01} }

// Validate returns an error that names the key and the allowed values.
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

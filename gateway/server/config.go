package server

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// HTTPConfig configures the public listener. Durations are per request; slower clients lose their connection.
type HTTPConfig struct {
	Addr              string        `koanf:"addr"`
	ReadHeaderTimeout time.Duration `koanf:"read_header_timeout"`
	ReadTimeout       time.Duration `koanf:"read_timeout"`
	WriteTimeout      time.Duration `koanf:"write_timeout"`
	IdleTimeout       time.Duration `koanf:"idle_timeout"`
	MaxHeaderBytes    int           `koanf:"max_header_bytes"`
	// MaxConns bounds open connections; further clients wait in the kernel's backlog. 0 means no bound.
	MaxConns int `koanf:"max_conns"`
	// TLSCert and TLSKey are PEM files, read again when they change. Empty: plain HTTP, for a load balancer that
	// terminates TLS.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// Express serves the plain requests of a rush with less CPU, outside net/http. It needs plain HTTP.
	Express bool `koanf:"express"`
}

// DefaultHTTPConfig returns the documented defaults, with address :8080.
func DefaultHTTPConfig() HTTPConfig {
	return HTTPConfig{
		Addr:              ":8080",
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		MaxConns:          20_000,
		Express:           true,
	}
}

// Validate returns every bad value, each with its key and the allowed values.
func (c HTTPConfig) Validate() error {
	errs := []error{
		CheckAddr("http.addr", c.Addr),
		CheckDuration("http.read_header_timeout", c.ReadHeaderTimeout, time.Millisecond, 5*time.Minute),
		CheckDuration("http.read_timeout", c.ReadTimeout, time.Millisecond, 5*time.Minute),
		CheckDuration("http.write_timeout", c.WriteTimeout, time.Millisecond, time.Hour),
		CheckDuration("http.idle_timeout", c.IdleTimeout, time.Millisecond, time.Hour),
		CheckInt("http.max_header_bytes", c.MaxHeaderBytes, 4<<10, 1<<20),
		CheckInt("http.max_conns", c.MaxConns, 0, 1_000_000),
		CheckPair("http", c.TLSCert, c.TLSKey),
	}
	if c.ReadTimeout < c.ReadHeaderTimeout {
		errs = append(errs,
			fmt.Errorf("http.read_timeout must not be shorter than http.read_header_timeout (%s), got %s",
				c.ReadHeaderTimeout, c.ReadTimeout))
	}
	return errors.Join(errs...)
}

// OpsConfig configures the operations listener.
type OpsConfig struct {
	Addr string `koanf:"addr"`
	// TLSCert and TLSKey are PEM files, as of HTTPConfig.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// CAFile holds PEM certificates that the command line trusts for this listener; empty means the system's.
	CAFile string `koanf:"ca_file"`
}

// DefaultOpsConfig returns a configuration for loopback only, because metrics and profiles are not public.
func DefaultOpsConfig() OpsConfig { return OpsConfig{Addr: "127.0.0.1:8081"} }

// Validate returns an error that names the key and the allowed values.
func (c OpsConfig) Validate() error {
	return errors.Join(CheckAddr("ops.addr", c.Addr), CheckPair("ops", c.TLSCert, c.TLSKey))
}

// CheckAddr names the key of an address that cannot be listened on.
func CheckAddr(key, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s must be host:port or :port with a port 0..65535, got %q", key, addr)
	}
	return nil
}

// CheckPair names the keys of a section of which one of two is missing.
func CheckPair(section, cert, key string) error {
	if (cert == "") != (key == "") {
		return errors.New(section + ".tls_cert and " + section + ".tls_key must be set together")
	}
	return nil
}

// CheckDuration returns an error that names the key if a duration is out of bounds.
func CheckDuration(key string, value, least, most time.Duration) error {
	if value < least || value > most {
		return fmt.Errorf("%s must be between %s and %s, got %s", key, least, most, value)
	}
	return nil
}

// CheckInt returns an error that names the key if a number is out of bounds.
func CheckInt(key string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("%s must be between %d and %d, got %d", key, least, most, value)
	}
	return nil
}

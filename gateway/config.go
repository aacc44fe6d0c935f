package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/api"
	"sluice/gateway/auth"
)

// HTTPConfig is the public listener. Every duration is per request; a client that is slower loses its connection.
type HTTPConfig struct {
	Addr              string        `koanf:"addr"`
	ReadHeaderTimeout time.Duration `koanf:"read_header_timeout"`
	ReadTimeout       time.Duration `koanf:"read_timeout"`
	WriteTimeout      time.Duration `koanf:"write_timeout"`
	IdleTimeout       time.Duration `koanf:"idle_timeout"`
	MaxHeaderBytes    int           `koanf:"max_header_bytes"`
	// MaxConns bounds open connections; further clients wait in the kernel's backlog. 0 means no bound.
	MaxConns int `koanf:"max_conns"`
	// TLSCert and TLSKey are PEM files, read again when they change. Empty: plain HTTP, behind a load balancer that ends TLS.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// Express serves the plain requests of a rush outside net/http, for less. It needs plain HTTP.
	Express bool `koanf:"express"`
}

// DefaultHTTPConfig listens on :8080.
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

// Validate returns every bad value, each by its key and with what is allowed.
func (c HTTPConfig) Validate() error {
	errs := []error{
		checkAddr("http.addr", c.Addr),
		checkDuration("http.read_header_timeout", c.ReadHeaderTimeout, time.Millisecond, 5*time.Minute),
		checkDuration("http.read_timeout", c.ReadTimeout, time.Millisecond, 5*time.Minute),
		checkDuration("http.write_timeout", c.WriteTimeout, time.Millisecond, time.Hour),
		checkDuration("http.idle_timeout", c.IdleTimeout, time.Millisecond, time.Hour),
		checkInt("http.max_header_bytes", c.MaxHeaderBytes, 4<<10, 1<<20),
		checkInt("http.max_conns", c.MaxConns, 0, 1_000_000),
		checkPair("http", c.TLSCert, c.TLSKey),
	}
	if c.ReadTimeout < c.ReadHeaderTimeout {
		errs = append(errs, fmt.Errorf("http.read_timeout must not be shorter than http.read_header_timeout (%s), got %s",
			c.ReadHeaderTimeout, c.ReadTimeout))
	}
	return errors.Join(errs...)
}

// OpsConfig is the operations listener.
type OpsConfig struct {
	Addr string `koanf:"addr"`
	// TLSCert and TLSKey are PEM files, as of HTTPConfig.
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`
	// CAFile holds PEM certificates that the command line trusts when it talks to the listener; empty means the system's.
	CAFile string `koanf:"ca_file"`
}

// DefaultOpsConfig listens on the loopback only: metrics and profiles are not for the public.
func DefaultOpsConfig() OpsConfig { return OpsConfig{Addr: "127.0.0.1:8081"} }

// Validate names the key and what is allowed.
func (c OpsConfig) Validate() error {
	return errors.Join(checkAddr("ops.addr", c.Addr), checkPair("ops", c.TLSCert, c.TLSKey))
}

// Config is what the gateway itself decides, apart from listeners, authentication and limits.
type Config struct {
	// BusyURL receives browsers (303) when the line is full. Empty: they get the problem document like everyone else.
	BusyURL string `koanf:"busy_url"`
	// TrustedProxies are addresses or CIDR blocks whose X-Forwarded-For and auth.header are believed. Default none.
	TrustedProxies []string `koanf:"trusted_proxies"`
	// ReceiptSecret signs receipts, at least 32 bytes. Empty: derived from auth.secret; without both, none are given and
	// an order that Redis has lost cannot be honoured.
	ReceiptSecret string `koanf:"receipt_secret" secret:"true"`
	// Locale is the language, zh-CN or en, in which a shopper is told whose request does not name one. Defaults to zh-CN.
	Locale string `koanf:"locale"`
	// AccessLogEvery logs one in so many successful requests. 1 logs all.
	AccessLogEvery int `koanf:"access_log_every"`
	// Admission false refuses new orders of every sale, as if all were paused; accepted ones go on. May change while Sluice runs.
	Admission bool `koanf:"admission"`
	// MaxWait is the longest long poll; a longer ?wait= is shortened to it.
	MaxWait time.Duration `koanf:"max_wait"`
	// api.RetryAfter and RetrySpread shape the Retry-After of refusals: uniformly api.RetryAfter..api.RetryAfter+RetrySpread.
	RetryAfter  time.Duration `koanf:"retry_after"`
	RetrySpread time.Duration `koanf:"retry_spread"`
}

// DefaultConfig trusts no proxy.
func DefaultConfig() Config {
	return Config{
		Locale:         api.Locales()[0],
		Admission:      true,
		AccessLogEvery: 1000,
		MaxWait:        25 * time.Second,
		RetryAfter:     2 * time.Second,
		RetrySpread:    6 * time.Second,
	}
}

// Validate returns every bad value, each by its key and with what is allowed.
func (c Config) Validate() error {
	_, proxies := c.Proxies()
	return errors.Join(
		checkBusyURL(c.BusyURL),
		proxies,
		checkReceiptSecret(c.ReceiptSecret),
		checkLocale(c.Locale),
		checkInt("gateway.access_log_every", c.AccessLogEvery, 1, 1_000_000_000),
		checkDuration("gateway.max_wait", c.MaxWait, time.Second, 10*time.Minute),
		checkDuration("gateway.retry_after", c.RetryAfter, time.Second, time.Hour),
		checkDuration("gateway.retry_spread", c.RetrySpread, 0, time.Hour),
	)
}

// Proxies is TrustedProxies parsed; a single address is a block of one.
func (c Config) Proxies() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var errs []error
	for _, text := range c.TrustedProxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf(
				"gateway.trusted_proxies must list IP addresses or CIDR blocks narrower than /0, got %q", text))
			continue
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, errors.Join(errs...)
}

// ValidateTogether checks what no section can check alone. Call it after each section's own Validate.
func ValidateTogether(server HTTPConfig, gateway Config, by auth.Config) error {
	var errs []error
	if by.Mode == auth.ModeHeader && len(gateway.TrustedProxies) == 0 {
		errs = append(errs, fmt.Errorf(
			"auth.mode header needs gateway.trusted_proxies: without it anybody could send %s and be anyone",
			by.Header))
	}
	if gateway.MaxWait >= server.WriteTimeout {
		errs = append(errs, fmt.Errorf("gateway.max_wait must be shorter than http.write_timeout (%s), got %s",
			server.WriteTimeout, gateway.MaxWait))
	}
	return errors.Join(errs...)
}

func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if prefix.Bits() == 0 || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("a block that holds everyone, or an IPv4 block written as IPv6")
	}
	return prefix.Masked(), nil
}

func checkAddr(key, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s must be host:port or :port with a port 0..65535, got %q", key, addr)
	}
	return nil
}

func checkBusyURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	absolute := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	local := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/")
	if !absolute && !local {
		return fmt.Errorf("gateway.busy_url must be an http(s) address or a path that starts with /, got %q", text)
	}
	return nil
}

func checkReceiptSecret(secret string) error {
	if secret != "" && len(secret) < 32 {
		return errors.New("gateway.receipt_secret must have at least 32 bytes")
	}
	return nil
}

func checkLocale(locale string) error {
	if !slices.Contains(api.Locales(), locale) {
		return fmt.Errorf("gateway.locale must be one of %s, got %q", strings.Join(api.Locales(), ", "), locale)
	}
	return nil
}

func checkDuration(key string, value, least, most time.Duration) error {
	if value < least || value > most {
		return fmt.Errorf("%s must be between %s and %s, got %s", key, least, most, value)
	}
	return nil
}

func checkInt(key string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("%s must be between %d and %d, got %d", key, least, most, value)
	}
	return nil
}

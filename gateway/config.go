package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

// Config is the gateway's own configuration, without listeners, authentication and limits.
type Config struct {
	// BusyURL receives browsers (303) when the line is full. Empty: they get the problem document like other clients.
	BusyURL string `koanf:"busy_url"`
	// TrustedProxies are addresses or CIDR blocks whose X-Forwarded-For and auth.header are trusted. Defaults to none.
	TrustedProxies []string `koanf:"trusted_proxies"`
	// ReceiptSecret signs receipts, at least 32 bytes. Empty: derived from auth.secret. Without both there are no
	// receipts, and orders that Redis loses cannot be readmitted.
	ReceiptSecret string `koanf:"receipt_secret" secret:"true"`
	// Locale is the language, zh-CN or en, of shoppers whose requests name none. Defaults to zh-CN.
	Locale string `koanf:"locale"`
	// AccessLogEvery logs one of that many successful requests. 1 logs all.
	AccessLogEvery int `koanf:"access_log_every"`
	// Admission false refuses new orders of every sale, as if all were paused; accepted ones go on.
	// May change while Sluice runs.
	Admission bool `koanf:"admission"`
	// MaxWait is the longest long poll; a longer ?wait= is shortened to it.
	MaxWait time.Duration `koanf:"max_wait"`
	// api.RetryAfter and RetrySpread shape the Retry-After of refusals: uniformly
	// api.RetryAfter..api.RetryAfter+RetrySpread.
	RetryAfter  time.Duration `koanf:"retry_after"`
	RetrySpread time.Duration `koanf:"retry_spread"`
}

// DefaultConfig returns the documented defaults, which trust no proxy.
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

// Validate returns every bad value, each with its key and the allowed values.
func (c Config) Validate() error {
	_, proxies := c.Proxies()
	return errors.Join(
		checkBusyURL(c.BusyURL),
		proxies,
		checkReceiptSecret(c.ReceiptSecret),
		checkLocale(c.Locale),
		server.CheckInt("gateway.access_log_every", c.AccessLogEvery, 1, 1_000_000_000),
		server.CheckDuration("gateway.max_wait", c.MaxWait, time.Second, 10*time.Minute),
		server.CheckDuration("gateway.retry_after", c.RetryAfter, time.Second, time.Hour),
		server.CheckDuration("gateway.retry_spread", c.RetrySpread, 0, time.Hour),
	)
}

// Proxies returns TrustedProxies parsed; a single address is a block of one.
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

// ValidateTogether checks the combination of sections. Call it after each section's own Validate.
func ValidateTogether(listener server.HTTPConfig, gateway Config, by auth.Config) error {
	var errs []error
	if by.Mode == auth.ModeHeader && len(gateway.TrustedProxies) == 0 {
		errs = append(errs, fmt.Errorf(
			"auth.mode header needs gateway.trusted_proxies: without it anybody could send %s and be anyone",
			by.Header))
	}
	if gateway.MaxWait >= listener.WriteTimeout {
		errs = append(errs, fmt.Errorf("gateway.max_wait must be shorter than http.write_timeout (%s), got %s",
			listener.WriteTimeout, gateway.MaxWait))
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

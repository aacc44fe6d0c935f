package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// ErrPrivateAddress refuses a call to an address that is not on the public internet.
var ErrPrivateAddress = errors.New("the address is private or reserved")

const (
	guardedIdle    = 30 * time.Second
	maxHeaderBytes = 64 << 10
)

// GuardedClient returns a client for URLs that operators or users give. It follows no redirect and uses no proxy. One
// exchange, body included, takes at most timeout. A call never waits for a connection: callers bound how many calls
// they make at once. As many connections as they have workers stay open for the next calls.
//
// Unless allowPrivate, it connects to public addresses only and fails with ErrPrivateAddress otherwise. The check is
// made on the address that is dialled, so no DNS answer gets around it. Callers must bound how much of the body they
// read, and call CloseIdleConnections at the end.
func GuardedClient(timeout time.Duration, workers int, allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if !allowPrivate {
		dialer.Control = publicOnly
	}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: timeout, ForceAttemptHTTP2: true,
			MaxIdleConns: workers, MaxIdleConnsPerHost: workers,
			IdleConnTimeout: guardedIdle, MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// publicOnly refuses a connection to an address that is not public.
func publicOnly(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it is no IP address", ErrPrivateAddress)
	}
	if !isPublic(target.Addr()) {
		return ErrPrivateAddress
	}
	return nil
}

// isPublic reports whether the address is on the public internet. Loopback, private, link-local (cloud metadata),
// shared (CGNAT), multicast and reserved addresses are not. Nor are IPv6 forms that embed an IPv4 address.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	global := a.Is4() || netip.MustParsePrefix("2000::/3").Contains(a)
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" || !global {
		return false
	}
	for _, reserved := range []string{
		// IANA's IPv4 special purpose registry, without what netip knows by itself.
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		// Teredo and other protocols, documentation, 6to4.
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		if netip.MustParsePrefix(reserved).Contains(a) {
			return false
		}
	}
	return true
}

// CheckURL returns an error that names the key and shows nothing of the URL, which may carry a token.
func CheckURL(key, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%s: use an absolute http or https URL", key)
	}
	return nil
}

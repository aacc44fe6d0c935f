package notify

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// ErrPrivateAddress refuses a call to an address that is not on the public internet.
var ErrPrivateAddress = errors.New("the address is private or reserved")

const (
	guardedConns   = 64 // to one host
	guardedIdle    = 30 * time.Second
	maxHeaderBytes = 64 << 10
)

// GuardedClient is for calling URLs that came by configuration or from other people. It follows no redirect, uses no proxy, and
// one exchange, body included, takes at most timeout. Unless allowPrivate, it connects to public addresses only and fails with
// ErrPrivateAddress otherwise; the check is made on the address that is dialled, so no DNS answer gets around it. Bound what you
// read of the body, and call CloseIdleConnections at the end.
func GuardedClient(timeout time.Duration, allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if !allowPrivate {
		dialer.Control = publicOnly
	}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: timeout, ForceAttemptHTTP2: true, MaxConnsPerHost: guardedConns,
			MaxIdleConns: guardedConns, MaxIdleConnsPerHost: guardedConns, IdleConnTimeout: guardedIdle, MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func publicOnly(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it is no IP address", ErrPrivateAddress)
	}
	if !public(target.Addr()) {
		return ErrPrivateAddress
	}
	return nil
}

// public reports whether the address is one of the open internet: no loopback, private, link-local (cloud metadata among them),
// shared (CGNAT), multicast or reserved one, nor an IPv6 form that carries an IPv4 address past this check.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" || (a.Is6() && !netip.MustParsePrefix("2000::/3").Contains(a)) {
		return false
	}
	for _, reserved := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", // IANA's IPv4 special purpose registry, without what netip knows by itself
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", // Teredo and other protocols, documentation, 6to4
	} {
		if netip.MustParsePrefix(reserved).Contains(a) {
			return false
		}
	}
	return true
}

// Package auth authenticates requests by tokens and assigns roles.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	minSecretBytes = 32
	maxTokenBytes  = 4 << 10
	// MaxUserBytes bounds the id of a user.
	MaxUserBytes = 128
	// clockSkew is the tolerated difference of an issuer's clock.
	clockSkew = 5 * time.Second
)

// ErrUnauthorized is wrapped by every refusal of an Authenticator; the wrapping text is safe to show to the client.
var ErrUnauthorized = errors.New("unauthorized")

// Actor is an administrator, as shown in the admin log.
type Actor struct {
	Name string
	Role Role
}

// Authenticator authenticates requests. It remembers a bounded number of verified tokens. Safe for concurrent use.
type Authenticator struct {
	users   *verifier // nil in header mode
	admins  *verifier // nil when neither secret nor key is configured
	header  string    // canonical; empty in jwt mode
	trusted []netip.Prefix
}

// NewAuthenticator returns an Authenticator. It fails on what Config.Validate refuses. It fails on a key file that is
// unreadable or contains anything but one public key.
func NewAuthenticator(cfg Config, trusted []netip.Prefix, now func() time.Time) (*Authenticator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Authenticator{trusted: trusted}
	var bySecret, byKey *verifier
	if cfg.Secret != "" {
		bySecret = newVerifier(jwt.SigningMethodHS256, []byte(cfg.Secret), cfg, now)
	}
	if cfg.PublicKeyFile != "" {
		method, key, err := loadPublicKey(cfg.PublicKeyFile)
		if err != nil {
			return nil, fmt.Errorf("auth.public_key_file %s: %w", cfg.PublicKeyFile, err)
		}
		byKey = newVerifier(method, key, cfg, now)
	}
	a.users, a.admins = byKey, bySecret
	if a.users == nil {
		a.users = bySecret
	}
	if a.admins == nil {
		a.admins = byKey
	}
	if cfg.Mode == ModeHeader {
		if len(trusted) == 0 {
			return nil, errors.New("auth.mode header needs gateway.trusted_proxies")
		}
		a.users, a.header = nil, textproto.CanonicalMIMEHeaderKey(cfg.Header)
	}
	return a, nil
}

// User returns the user who sent the request, 1 to 128 bytes of printable UTF-8. Errors wrap ErrUnauthorized.
func (a *Authenticator) User(r *http.Request) (string, error) {
	if a.header != "" {
		return a.forwardedUser(r)
	}
	token, err := bearer(r.Header)
	if err != nil {
		return "", err
	}
	id, err := a.users.verify(token)
	if err == nil && id.rights != nil {
		return "", errWorkToken
	}
	return id.user, err
}

// Admin returns the viewer, operator or administrator who sent the request, in every auth.mode. Errors wrap
// ErrUnauthorized, or ErrForbidden where the token is another system's.
func (a *Authenticator) Admin(r *http.Request) (Actor, error) {
	if a.admins == nil {
		return Actor{}, errNoAdminKey
	}
	token, err := bearer(r.Header)
	if err != nil {
		return Actor{}, err
	}
	id, err := a.admins.verify(token)
	if err != nil {
		return Actor{}, err
	}
	role := Role(id.role)
	switch {
	case id.rights != nil:
		return Actor{}, errNotOperators
	case !role.isKnown():
		return Actor{}, errNotAdmin
	}
	return Actor{Name: id.user, Role: role}, nil
}

// forwardedUser returns the user in the header. It accepts the header only once and only from a trusted proxy's
// address.
func (a *Authenticator) forwardedUser(r *http.Request) (string, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !containsAddr(a.trusted, peer.Addr().Unmap()) {
		return "", errPeer
	}
	values := r.Header[a.header]
	switch {
	case len(values) == 0:
		return "", errNoUserHeader
	case len(values) > 1 || !ValidUser(values[0]):
		return "", errBadUserHeader
	}
	return values[0], nil
}

// RefusalError says why a request was not authenticated. All values exist in advance, so that refusing allocates
// nothing.
type RefusalError struct {
	Reason string
	Sent   bool // the client sent credentials
}

func (e *RefusalError) Error() string { return "unauthorized: " + e.Reason }
func (e *RefusalError) Unwrap() error { return ErrUnauthorized }

var (
	errNoToken      = &RefusalError{"send Authorization: Bearer <token>", false}
	errScheme       = &RefusalError{"the Authorization header must come once, as: Bearer <token>", true}
	errHugeToken    = &RefusalError{"the token is longer than 4096 bytes", true}
	errMalformed    = &RefusalError{"the token is malformed", true}
	errSignature    = &RefusalError{"the token's signature or algorithm is wrong", true}
	errExpired      = &RefusalError{"the token has expired", true}
	errNotYet       = &RefusalError{"the token is not valid yet", true}
	errMissingClaim = &RefusalError{"the token lacks a required claim: exp, or iss or aud where they are configured",
		true}
	errIssuer  = &RefusalError{"the token's issuer or audience is wrong", true}
	errSubject = &RefusalError{"the token's sub claim must be 1 to 128 bytes of UTF-8 without control " +
		"characters or outer spaces", true}
	errWorkToken  = &RefusalError{"the token is another system's, for the work listener alone", true}
	errNotAdmin   = &RefusalError{"the token is not an administrator's", true}
	errNoAdminKey = &RefusalError{"administrators cannot sign in: neither auth.secret nor auth.public_key_file is " +
		"configured", false}
	errPeer = &RefusalError{"users are named by the trusted proxy, and this request did not come from it",
		false}
	errNoUserHeader  = &RefusalError{"the trusted proxy named no user", false}
	errBadUserHeader = &RefusalError{"the trusted proxy's user must come once, as 1 to 128 bytes of UTF-8 without " +
		"control characters or outer spaces", true}
)

// bearer returns the token of the Authorization header. The scheme's case does not matter (RFC 9110).
func bearer(h http.Header) (string, error) {
	values := h["Authorization"]
	if len(values) == 0 {
		return "", errNoToken
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errScheme
	}
	if len(token) > maxTokenBytes {
		return "", errHugeToken
	}
	return token, nil
}

// ValidUser reports whether user is a valid id. It refuses outer spaces, because padding databases would equate "ann"
// and "ann ".
func ValidUser(user string) bool {
	if user == "" || len(user) > MaxUserBytes || !utf8.ValidString(user) || strings.TrimSpace(user) != user {
		return false
	}
	return strings.IndexFunc(user, unicode.IsControl) < 0
}

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

package auth

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// ErrForbidden is wrapped where a token is good, but not for this listener.
var ErrForbidden = errors.New("forbidden")

// ForbiddenError says what a token is for.
type ForbiddenError struct{ Reason string }

func (e *ForbiddenError) Error() string { return "forbidden: " + e.Reason }

// Unwrap returns ErrForbidden.
func (e *ForbiddenError) Unwrap() error { return ErrForbidden }

var (
	errNotOperators = &ForbiddenError{"The token is another system's, for the work listener alone."}
	errOperators    = &ForbiddenError{"The token is an operator's. This listener takes tokens with the claims " +
		"publish and subscribe; see sluice token."}
	errNoRights = &RefusalError{"the token has neither of the claims publish and subscribe", true}
)

// Rights are what another system of the shop may do on the work listener.
type Rights struct {
	System    string   // whom the token names
	Publish   []string // topics whose messages it adds, looks up and cancels
	Subscribe []string // subscriptions whose messages it receives
}

// MayPublish reports whether the system may add messages to a topic.
func (r Rights) MayPublish(topic string) bool { return slices.Contains(r.Publish, topic) }

// MayReceive reports whether the system may receive messages of a subscription.
func (r Rights) MayReceive(subscription string) bool {
	return slices.Contains(r.Subscribe, subscription)
}

// rights returns what a token says of another system; nil where it is none's.
func (c *tokenClaims) rights() *Rights {
	if c.Publish == nil && c.Subscribe == nil {
		return nil
	}
	return &Rights{System: c.Subject, Publish: c.Publish, Subscribe: c.Subscribe}
}

// Work returns the rights of the system that sent the request. Its token is signed like an administrator's, whatever
// auth.mode is. Errors wrap ErrUnauthorized, or ErrForbidden where the token is an operator's.
func (a *Authenticator) Work(r *http.Request) (Rights, error) {
	if a.admins == nil {
		return Rights{}, errNoAdminKey
	}
	token, err := bearer(r.Header)
	if err != nil {
		return Rights{}, err
	}
	id, err := a.admins.verify(token)
	switch {
	case err != nil:
		return Rights{}, err
	case id.rights == nil && Role(id.role).isKnown():
		return Rights{}, errOperators
	case id.rights == nil:
		return Rights{}, errNoRights
	}
	return *id.rights, nil
}

// targetName is the form of the name of a topic or a subscription.
var targetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// MintWork signs a token for another system, valid from now for ttl. It needs auth.secret.
func MintWork(cfg Config, rights Rights, ttl time.Duration, now time.Time) (string, error) {
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	switch {
	case cfg.Secret == "":
		return "", errors.New("minting a token needs auth.secret; with auth.public_key_file only its issuer can sign")
	case !ValidUser(rights.System):
		return "", fmt.Errorf("user must be 1 to %d bytes of UTF-8 without control characters or outer spaces, got %q",
			MaxUserBytes, rights.System)
	case ttl < time.Second:
		return "", fmt.Errorf("ttl must be at least 1s, got %s", ttl)
	case len(rights.Publish)+len(rights.Subscribe) == 0:
		return "", errors.New("a system's token must name a topic or a subscription")
	}
	for _, name := range slices.Concat(rights.Publish, rights.Subscribe) {
		if !targetName.MatchString(name) {
			return "", fmt.Errorf("publish and subscribe must name topics and subscriptions one by one, got %q", name)
		}
	}
	claims := claimsOf(cfg, rights.System, ttl, now)
	claims.Publish, claims.Subscribe = rights.Publish, rights.Subscribe
	text, err := claims.sign(cfg)
	if err == nil && len(text) > maxTokenBytes {
		err = fmt.Errorf("the token would be longer than %d bytes: name fewer topics and subscriptions", maxTokenBytes)
	}
	return text, err
}

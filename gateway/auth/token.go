package auth

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// Mint returns a signed token for development, load tests and the command line, valid from now for ttl. It needs
// auth.secret. It fails for a shopper's token that a gateway with this configuration would refuse.
func Mint(cfg Config, user string, admin bool, ttl time.Duration, now time.Time) (string, error) {
	role := Role("")
	if admin {
		role = RoleAdmin
	}
	return MintFor(cfg, user, role, ttl, now)
}

// MintFor returns a signed token for a role or, without one, for a shopper.
func MintFor(cfg Config, user string, role Role, ttl time.Duration, now time.Time) (string, error) {
	if role != "" && !role.isKnown() {
		return "", fmt.Errorf("role must be viewer, operator or admin, got %q", role)
	}
	admin := role != ""
	if err := cfg.Validate(); err != nil {
		return "", err
	}
	switch {
	case cfg.Secret == "":
		return "", errors.New("minting a token needs auth.secret; with auth.public_key_file only its issuer can sign")
	case !admin && cfg.Mode == ModeHeader:
		return "", errors.New("auth.mode is header: shoppers carry no token, the trusted proxy names them")
	case !admin && cfg.PublicKeyFile != "":
		return "", errors.New("auth.public_key_file is set: shoppers' tokens must come from its issuer")
	case !ValidUser(user):
		return "",
			fmt.Errorf("user must be 1 to %d bytes of UTF-8 without control characters or outer spaces, got %q",
				MaxUserBytes, user)
	case ttl < time.Second:
		return "", fmt.Errorf("ttl must be at least 1s, got %s", ttl)
	}
	claims := claimsOf(cfg, user, ttl, now)
	claims.Role = string(role)
	return claims.sign(cfg)
}

// claimsOf returns what every token says.
func claimsOf(cfg Config, subject string, ttl time.Duration, now time.Time) *tokenClaims {
	claims := &tokenClaims{RegisteredClaims: jwt.RegisteredClaims{
		Subject:   subject,
		Issuer:    cfg.Issuer,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}}
	if cfg.Audience != "" {
		claims.Audience = jwt.ClaimStrings{cfg.Audience}
	}
	return claims
}

func (c *tokenClaims) sign(cfg Config) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(cfg.Secret))
}

// identity is the content of a verified token.
type identity struct {
	user    string
	role    string
	expires time.Time // of the token, without clockSkew
	rights  *Rights   // nil: not another system's
}

// verifier checks tokens against one key with one algorithm.
type verifier struct {
	parser *jwt.Parser
	key    jwt.Keyfunc
	now    func() time.Time
	quick  *quickHS256 // nil for other algorithms
	known  *tokenCache
}

func newVerifier(method jwt.SigningMethod, key any, cfg Config, now func() time.Time) *verifier {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{method.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(clockSkew),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	keyfunc := func(t *jwt.Token) (any, error) {
		// The library ignores crit, which requires to refuse unknown extensions (RFC 7515).
		if _, critical := t.Header["crit"]; critical || t.Method.Alg() != method.Alg() {
			return nil, errSignature
		}
		return key, nil
	}
	v := &verifier{parser: jwt.NewParser(options...), key: keyfunc, now: now, known: newTokenCache()}
	if secret, symmetric := key.([]byte); symmetric {
		v.quick = newQuickHS256(secret, cfg, now)
	}
	return v
}

// verify returns the identity of a token. Tokens with a costly signature are remembered, but their expiry is checked
// each time.
func (v *verifier) verify(token string) (identity, error) {
	if v.quick != nil {
		if id, ok := v.quick.accept(token); ok {
			return id, nil
		}
	}
	if id, ok := v.known.get(token); ok {
		if !v.now().Before(id.expires.Add(clockSkew)) {
			return identity{}, errExpired
		}
		return id, nil
	}
	var claims tokenClaims
	if _, err := v.parser.ParseWithClaims(token, &claims, v.key); err != nil {
		return identity{}, refusalOf(err)
	}
	if !ValidUser(claims.Subject) {
		return identity{}, errSubject
	}
	id := identity{user: claims.Subject, role: claims.Role, expires: claims.ExpiresAt.Time,
		rights: claims.rights()}
	v.known.put(token, id)
	return id, nil
}

// refusalOf returns the refusal for an error of the library, whose text may quote the token. A forged token gets no
// details.
func refusalOf(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return errMalformed
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return errSignature
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errMissingClaim
	case errors.Is(err, jwt.ErrTokenExpired):
		return errExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return errNotYet
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience):
		return errIssuer
	}
	return errMalformed
}

const (
	cacheShards      = 16
	cacheShardTokens = 2048
	cacheTokenBytes  = 1024
)

// tokenCache remembers at most 32,768 verified tokens of at most 1 KiB each, so at most 32 MiB. It takes only tokens
// with a valid signature, so that strangers cannot push others out. When full, it forgets an arbitrary token.
type tokenCache struct {
	seed   maphash.Seed
	shards [cacheShards]struct {
		sync.RWMutex
		known map[string]identity
	}
}

func newTokenCache() *tokenCache {
	c := &tokenCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].known = make(map[string]identity)
	}
	return c
}

func (c *tokenCache) get(token string) (identity, bool) {
	shard := &c.shards[maphash.String(c.seed, token)%cacheShards]
	shard.RLock()
	defer shard.RUnlock()
	id, ok := shard.known[token]
	return id, ok
}

func (c *tokenCache) put(token string, id identity) {
	if len(token) > cacheTokenBytes {
		return
	}
	shard := &c.shards[maphash.String(c.seed, token)%cacheShards]
	shard.Lock()
	defer shard.Unlock()
	if len(shard.known) >= cacheShardTokens {
		for old := range shard.known {
			delete(shard.known, old)
			break
		}
	}
	// The token is a slice of the whole header line; the copy frees the rest.
	shard.known[strings.Clone(token)] = id
}

// tokenClaims is decoded strictly: names match by case and a repeated name is an error. So users who may add claims
// cannot add a second "sub" or a "Role".
type tokenClaims struct {
	jwt.RegisteredClaims
	Role      string   `json:"role,omitempty"`
	Publish   []string `json:"publish,omitempty"`   // topics
	Subscribe []string `json:"subscribe,omitempty"` // subscriptions
}

func (c *tokenClaims) UnmarshalJSON(data []byte) error {
	type plain tokenClaims
	return json.Unmarshal(data, (*plain)(c))
}

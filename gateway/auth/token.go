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

// Mint signs a token for development, load tests and the command line, valid from now for ttl. It needs auth.secret,
// and refuses a shopper's token that the gateway of this configuration would not accept.
func Mint(cfg Config, user string, admin bool, ttl time.Duration, now time.Time) (string, error) {
	role := Role("")
	if admin {
		role = RoleAdmin
	}
	return MintFor(cfg, user, role, ttl, now)
}

// MintFor is Mint for a viewer, an operator or an administrator; without a role it mints a shopper's token.
func MintFor(cfg Config, user string, role Role, ttl time.Duration, now time.Time) (string, error) {
	if role != "" && !role.known() {
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
	claims := tokenClaims{RegisteredClaims: jwt.RegisteredClaims{
		Subject:   user,
		Issuer:    cfg.Issuer,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}}
	if cfg.Audience != "" {
		claims.Audience = jwt.ClaimStrings{cfg.Audience}
	}
	claims.Role = string(role)
	return jwt.NewWithClaims(jwt.SigningMethodHS256, &claims).SignedString([]byte(cfg.Secret))
}

// identity is what a verified token says.
type identity struct {
	user    string
	role    string
	expires time.Time // of the token; clockSkew not added
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
		// The library ignores crit, which obliges a reader to refuse what it does not understand (RFC 7515).
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

// verify returns who the token speaks for. A token with a costly signature that was verified before costs one look-up;
// its expiry is checked each time.
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
	id := identity{user: claims.Subject, role: claims.Role, expires: claims.ExpiresAt.Time}
	v.known.put(token, id)
	return id, nil
}

// refusalOf hides the library's text, which may quote the token. A forged token learns nothing but that.
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

// tokenCache remembers at most 32,768 verified tokens of at most 1 KiB each, so 32 MiB of tokens at the worst. Only
// tokens whose signature held get in, so a stranger cannot push others out. Full, it forgets an arbitrary one.
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
	// The token is a slice of the whole header line; a copy keeps only what is needed.
	shard.known[strings.Clone(token)] = id
}

// tokenClaims is decoded strictly: names match by case and a repeated name is an error, so that an issuer who lets
// users add claims cannot be talked into a second "sub" or a "Role".
type tokenClaims struct {
	jwt.RegisteredClaims
	Role string `json:"role,omitempty"`
}

func (c *tokenClaims) UnmarshalJSON(data []byte) error {
	type plain tokenClaims
	return json.Unmarshal(data, (*plain)(c))
}

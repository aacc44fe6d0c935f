package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// quickHS256 accepts the most common tokens in a quarter of the library's time. They are HS256 with a plain header
// and whole seconds. It never refuses. The library decides on every token that it does not accept.
type quickHS256 struct {
	states           sync.Pool // of *hs256Desk
	issuer, audience string
	now              func() time.Time
}

// hs256State is the reusable state of one verification. Keying an HMAC costs two blocks, resetting it none.
type hs256State struct {
	mac    hash.Hash
	token  []byte
	claims []byte
	sums   [2 * sha256.Size]byte
}

// plainHeader reports whether an encoded header contains alg HS256, perhaps typ JWT, and nothing else.
func plainHeader(encoded string) bool {
	switch encoded {
	case "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", // {"alg":"HS256","typ":"JWT"}
		"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9", // {"typ":"JWT","alg":"HS256"}
		"eyJhbGciOiJIUzI1NiJ9":                 // {"alg":"HS256"}
		return true
	}
	return false
}

// plainClaims is decoded as strictly as tokenClaims. It does not support arrays of audiences and fractions of seconds,
// which are left to the library.
type plainClaims struct {
	Subject   string `json:"sub"`
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Role      string `json:"role"`
	ID        string `json:"jti"`
	Expires   int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`

	// Another system's token has one of these; the library reads it.
	Publish   jsontext.Value `json:"publish"`
	Subscribe jsontext.Value `json:"subscribe"`
}

// read decodes the most common form, without any other claim. It reports false for other forms.
func (c *plainClaims) read(payload []byte) bool {
	seen := 0 // a bit for each name
	return plainObject(payload, func(m plainMember) bool {
		var text *string
		var number *int64
		var bit int
		switch string(m.name) {
		case "sub":
			text, bit = &c.Subject, 1
		case "iss":
			text, bit = &c.Issuer, 2
		case "aud":
			text, bit = &c.Audience, 4
		case "role":
			text, bit = &c.Role, 8
		case "jti":
			text, bit = &c.ID, 16
		case "exp":
			number, bit = &c.Expires, 32
		case "nbf":
			number, bit = &c.NotBefore, 64
		case "iat":
			number, bit = &c.IssuedAt, 128
		}
		if bit == 0 || seen&bit != 0 || m.isText != (text != nil) {
			return false
		}
		seen |= bit
		if text != nil {
			*text = string(m.text)
		} else {
			*number = m.number
		}
		return true
	})
}

func newQuickHS256(secret []byte, cfg Config, now func() time.Time) *quickHS256 {
	return &quickHS256{issuer: cfg.Issuer, audience: cfg.Audience, now: now,
		states: sync.Pool{New: func() any { return &hs256State{mac: hmac.New(sha256.New, secret)} }}}
}

// accept returns the identity of a token, or false when the library must decide. The token is at most maxTokenBytes
// long.
func (q *quickHS256) accept(token string) (identity, bool) {
	state := q.states.Get().(*hs256State)
	defer q.states.Put(state)
	state.token = append(state.token[:0], token...)
	payload, ok := state.verified()
	if !ok {
		return identity{}, false
	}
	var err error
	if state.claims, err = base64.RawURLEncoding.Strict().AppendDecode(state.claims[:0], payload); err != nil {
		return identity{}, false
	}
	var c plainClaims
	if !c.read(state.claims) {
		c = plainClaims{}
		if err := json.Unmarshal(state.claims, &c); err != nil {
			return identity{}, false
		}
	}
	return q.identify(c)
}

// verified returns the encoded payload of the token if its header is plain and its signature is valid.
func (d *hs256State) verified() (payload []byte, ok bool) {
	end := bytes.LastIndexByte(d.token, '.')
	if end < 0 || base64.RawURLEncoding.DecodedLen(len(d.token)-end-1) != sha256.Size {
		return nil, false
	}
	header, payload, ok := bytes.Cut(d.token[:end], []byte{'.'})
	if !ok || !plainHeader(string(header)) {
		return nil, false
	}
	got, err := base64.RawURLEncoding.Strict().AppendDecode(d.sums[:0], d.token[end+1:])
	if err != nil {
		return nil, false
	}
	d.mac.Reset()
	d.mac.Write(d.token[:end])
	return payload, hmac.Equal(got, d.mac.Sum(d.sums[sha256.Size:sha256.Size]))
}

func (q *quickHS256) identify(c plainClaims) (identity, bool) {
	now, expires := q.now(), time.Unix(c.Expires, 0)
	switch {
	case c.Expires <= 0, !now.Before(expires.Add(clockSkew)),
		c.NotBefore > 0 && now.Before(time.Unix(c.NotBefore, 0).Add(-clockSkew)),
		c.NotBefore < 0, q.issuer != "" && c.Issuer != q.issuer, q.audience != "" && c.Audience != q.audience,
		!ValidUser(c.Subject), len(c.Publish)+len(c.Subscribe) > 0:
		return identity{}, false
	}
	return identity{user: c.Subject, role: c.Role, expires: expires}, true
}

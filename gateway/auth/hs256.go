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
)

// quickHS256 accepts the tokens that nearly every shopper sends, in a quarter
// of the time of the library: HS256 with a plain header and whole seconds. It
// only ever says yes. Whatever it does not accept, for any reason, the library
// judges, and words the refusal.
type quickHS256 struct {
	desks            sync.Pool // of *hs256Desk
	issuer, audience string
	now              func() time.Time
}

// hs256Desk is what one verification works on; keying an HMAC costs two
// blocks, resetting it none.
type hs256Desk struct {
	mac    hash.Hash
	token  []byte
	claims []byte
	sums   [2 * sha256.Size]byte
}

// plainHeader reports whether a token begins with one of the headers that say
// alg HS256, perhaps typ JWT, and nothing else.
func plainHeader(encoded string) bool {
	switch encoded {
	case "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", // {"alg":"HS256","typ":"JWT"}
		"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9", // {"typ":"JWT","alg":"HS256"}
		"eyJhbGciOiJIUzI1NiJ9":                 // {"alg":"HS256"}
		return true
	}
	return false
}

// plainClaims are decoded as strictly as tokenClaims; an array of audiences or
// a fraction of a second does not fit and is left to the library.
type plainClaims struct {
	Subject   string `json:"sub"`
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Role      string `json:"role"`
	ID        string `json:"jti"`
	Expires   int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`
}

// read takes the commonest form, in a quarter of the time: no claim but these.
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
		desks: sync.Pool{New: func() any { return &hs256Desk{mac: hmac.New(sha256.New, secret)} }}}
}

// accept returns who a token speaks for, or false when it cannot tell. The
// token is at most maxTokenBytes long.
func (q *quickHS256) accept(token string) (identity, bool) {
	desk := q.desks.Get().(*hs256Desk)
	defer q.desks.Put(desk)
	desk.token = append(desk.token[:0], token...)
	payload, ok := desk.verified()
	if !ok {
		return identity{}, false
	}
	var err error
	if desk.claims, err = base64.RawURLEncoding.Strict().AppendDecode(desk.claims[:0], payload); err != nil {
		return identity{}, false
	}
	var c plainClaims
	if !c.read(desk.claims) {
		c = plainClaims{}
		if err := json.Unmarshal(desk.claims, &c); err != nil {
			return identity{}, false
		}
	}
	return q.judge(c)
}

// verified returns the payload of the token, still encoded, if its header is
// plain and its signature holds.
func (d *hs256Desk) verified() (payload []byte, ok bool) {
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

func (q *quickHS256) judge(c plainClaims) (identity, bool) {
	now, expires := q.now(), time.Unix(c.Expires, 0)
	switch {
	case c.Expires <= 0, !now.Before(expires.Add(clockSkew)),
		c.NotBefore > 0 && now.Before(time.Unix(c.NotBefore, 0).Add(-clockSkew)),
		c.NotBefore < 0, q.issuer != "" && c.Issuer != q.issuer, q.audience != "" && c.Audience != q.audience,
		!ValidUser(c.Subject):
		return identity{}, false
	}
	return identity{user: c.Subject, role: c.Role, expires: expires}, true
}

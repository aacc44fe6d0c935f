package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"sync"

	"github.com/google/uuid"

	"sluice/api"
	"sluice/inventory"
)

// signedID is how many bytes of an order id are signed. The other 6 are the signature.
const signedID = 10

// maxSigners is for how many sales signers are kept. Beyond that, all are dropped and created anew.
const maxSigners = 10_000

// orderIDs creates and verifies order ids. Safe for concurrent use.
type orderIDs struct {
	mu      sync.RWMutex
	signers map[string]*signer // by the sale's key
}

// next returns the id of a user's order in a sale. With an Idempotency-Key it is a UUIDv8 computed from sale, user and
// key. So every gateway gives a repeated request the same id. Without one it is a new UUIDv7. The last 48 bits are a
// signature with the sale's key; see issued. A sale without a key has unsigned ids.
func (o *orderIDs) next(sale inventory.Sale, user, key string) string {
	var id uuid.UUID
	if key == "" {
		id = uuid.Must(uuid.NewV7()) // fails only without a random source, which ends a Go process anyway
	} else {
		sum := hashParts("sluice order", sale.ID, user, key)
		id = uuid.UUID(sum[:16])
		id[6] = id[6]&0x0f | 0x80 // version 8
		id[8] = id[8]&0x3f | 0x80 // variant RFC 9562
	}
	if sale.IDKey != "" {
		o.sign(&id, sale, user)
	}
	return id.String()
}

// issued reports whether a gateway has created this id for this user in this sale. An id is given out only after its
// order was accepted, so such an order was. For sales without a key it returns false.
func (o *orderIDs) issued(sale inventory.Sale, user, id string) bool {
	given, err := uuid.Parse(id)
	if sale.IDKey == "" || err != nil || given.String() != id { // other spellings are not ids
		return false
	}
	want := given
	o.sign(&want, sale, user)
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// sign replaces the end of id by the signature of sale, user and the rest of id.
func (o *orderIDs) sign(id *uuid.UUID, sale inventory.Sale, user string) {
	sum := o.signer(sale.IDKey).sign(sale.ID, user, string(id[:signedID]))
	copy(id[signedID:], sum[:])
}

func (o *orderIDs) signer(key string) *signer {
	o.mu.RLock()
	s := o.signers[key]
	o.mu.RUnlock()
	if s != nil {
		return s
	}
	s = newSigner([]byte(key))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.signers == nil || len(o.signers) >= maxSigners {
		o.signers = make(map[string]*signer)
	}
	o.signers[key] = s
	return s
}

// mintedAt returns when a UUIDv7 was created, in unix milliseconds, or 0 for any other id.
func mintedAt(id string) int64 {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return 0
	}
	var ms [8]byte
	copy(ms[2:], parsed[:6])
	return int64(binary.BigEndian.Uint64(ms[:])) // #nosec G115 -- 48 bits
}

// Fingerprint returns 8 hex digits that distinguish payloads, to tell a repeated request from a changed one. It is no
// protection.
func Fingerprint(body api.OrderRequest) string {
	parts := [...]string{strconv.Itoa(body.Quantity), body.Email, body.Phone, body.Locale}
	given := len(parts)
	if body.Locale == "" { // without one the fingerprint is that of older releases
		given--
	}
	sum := hashParts(parts[:given]...)
	return hex.EncodeToString(sum[:4])
}

// hashParts hashes each part with its length in front, so that ("ab","c") and ("a","bc") differ.
func hashParts(parts ...string) [sha256.Size]byte {
	var room [256]byte // enough for nearly all ids
	text := room[:0]
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

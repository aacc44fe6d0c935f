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

// signedID is how many bytes of an order id its signature covers. The other 6 are the signature.
const signedID = 10

// mostSigners is for how many sales a signer is kept. Of more, all are forgotten and made anew.
const mostSigners = 10_000

// orderIDs makes and recognises order ids. Safe for concurrent use.
type orderIDs struct {
	mu      sync.RWMutex
	signers map[string]*signer // by the sale's key
}

// next names a user's order in a sale. With a key it is a UUIDv8 computed from sale, user and key, so that every
// gateway gives a repeated request the same order without asking anyone. Without one it is a fresh UUIDv7.
// Its last 48 bits are a signature under the sale's key, see issued. A sale without a key keeps unsigned ids.
func (o *orderIDs) next(sale inventory.Sale, user, key string) string {
	var id uuid.UUID
	if key == "" {
		id = uuid.Must(uuid.NewV7()) // fails only without a random source, on which Go itself ends the process
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

// issued reports whether an order id was made by a gateway for this user in this sale. Only who was given an id can
// know it, and an id is given after its order was accepted. False for the ids of a sale without a key.
func (o *orderIDs) issued(sale inventory.Sale, user, id string) bool {
	given, err := uuid.Parse(id)
	if sale.IDKey == "" || err != nil || given.String() != id { // other spellings name no order
		return false
	}
	want := given
	o.sign(&want, sale, user)
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

// sign replaces the end of id by the signature of sale, user and the rest.
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
	if o.signers == nil || len(o.signers) >= mostSigners {
		o.signers = make(map[string]*signer)
	}
	o.signers[key] = s
	return s
}

// mintedAt is when a UUIDv7 was made, unix milliseconds; 0 for any other id.
func mintedAt(id string) int64 {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return 0
	}
	var ms [8]byte
	copy(ms[2:], parsed[:6])
	return int64(binary.BigEndian.Uint64(ms[:])) // #nosec G115 -- 48 bits
}

// Fingerprint is 8 hex digits that differ when the payload differs. It tells a repeated request from a changed one; it
// protects nothing.
func Fingerprint(body api.OrderRequest) string {
	parts := [...]string{strconv.Itoa(body.Quantity), body.Email, body.Phone, body.Locale}
	given := len(parts)
	if body.Locale == "" { // without one the same request has the fingerprint it always had
		given--
	}
	sum := hashParts(parts[:given]...)
	return hex.EncodeToString(sum[:4])
}

// hashParts hashes each part behind its length, so that ("ab","c") and ("a","bc") differ.
func hashParts(parts ...string) [sha256.Size]byte {
	var room [256]byte // enough for nearly everybody
	text := room[:0]
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	return sha256.Sum256(text)
}

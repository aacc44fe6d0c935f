package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// signer makes HMAC-SHA256 signatures under one key. Safe for concurrent use.
type signer struct{ desks sync.Pool } // of *signDesk

// signDesk is what one signature works on.
type signDesk struct {
	mac  hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

func newSigner(key []byte) *signer {
	return &signer{desks: sync.Pool{New: func() any { return &signDesk{mac: hmac.New(sha256.New, key)} }}}
}

// sign signs length-prefixed parts, so that no two lists of them share a text.
func (s *signer) sign(parts ...string) [sha256.Size]byte {
	desk := s.desks.Get().(*signDesk)
	defer s.desks.Put(desk)
	desk.text = desk.text[:0]
	for _, p := range parts {
		desk.text = binary.BigEndian.AppendUint32(desk.text,
			uint32(len(p))) // #nosec G115 -- parts of one order are far below 4 GiB
		desk.text = append(desk.text, p...)
	}
	desk.mac.Reset()
	desk.mac.Write(desk.text)
	desk.mac.Sum(desk.sum[:0])
	return desk.sum
}

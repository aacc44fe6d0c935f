package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// signer computes HMAC-SHA256 signatures with one key. Safe for concurrent use.
type signer struct{ states sync.Pool } // of *signDesk

// signState is the reusable state of one signature.
type signState struct {
	mac  hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

func newSigner(key []byte) *signer {
	return &signer{states: sync.Pool{New: func() any { return &signState{mac: hmac.New(sha256.New, key)} }}}
}

// sign signs the parts, each with its length in front, so that different lists never give the same text.
func (s *signer) sign(parts ...string) [sha256.Size]byte {
	state := s.states.Get().(*signState)
	defer s.states.Put(state)
	state.text = state.text[:0]
	for _, p := range parts {
		state.text = binary.BigEndian.AppendUint32(state.text,
			uint32(len(p))) // #nosec G115 -- parts of one order are far below 4 GiB
		state.text = append(state.text, p...)
	}
	state.mac.Reset()
	state.mac.Write(state.text)
	state.mac.Sum(state.sum[:0])
	return state.sum
}

// Package codec stands in for the MessagePack codec that Gin names and nothing
// here uses. See the README beside it.
package codec

import (
	"errors"
	"io"
)

var errNotBuilt = errors.New("MessagePack is not built in")

// MsgpackHandle has no options.
type MsgpackHandle struct{}

// Encoder refuses to encode.
type Encoder struct{}

// NewEncoder returns an encoder that refuses.
func NewEncoder(io.Writer, *MsgpackHandle) *Encoder { return &Encoder{} }

// Encode fails.
func (*Encoder) Encode(any) error { return errNotBuilt }

// Decoder refuses to decode.
type Decoder struct{}

// NewDecoder returns a decoder that refuses.
func NewDecoder(io.Reader, *MsgpackHandle) *Decoder { return &Decoder{} }

// Decode fails.
func (*Decoder) Decode(any) error { return errNotBuilt }

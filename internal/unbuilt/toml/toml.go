// Package toml stands in for the TOML codec that Gin names and nothing here uses.
// See the README of the folder above.
package toml

import (
	"errors"
	"io"
)

var errNotBuilt = errors.New("TOML is not built in")

// Decoder refuses to decode.
type Decoder struct{}

// NewDecoder returns a decoder that refuses.
func NewDecoder(io.Reader) *Decoder { return &Decoder{} }

// Decode fails.
func (*Decoder) Decode(any) error { return errNotBuilt }

// Marshal fails.
func Marshal(any) ([]byte, error) { return nil, errNotBuilt }

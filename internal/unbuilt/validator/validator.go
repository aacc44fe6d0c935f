// Package validator stands in for the checker of struct tags that Gin's binding names and nothing here uses.
// See the README of the folder above.
package validator

import "errors"

var errNotBuilt = errors.New("the validator of struct tags is not built in")

// Validate refuses to validate.
type Validate struct{}

// New returns a validator that refuses.
func New() *Validate { return &Validate{} }

// SetTagName does nothing.
func (*Validate) SetTagName(string) {}

// Struct fails.
func (*Validate) Struct(any) error { return errNotBuilt }

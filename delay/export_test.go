package delay

import "context"

// What the tests of this package need to see from outside.
const (
	OldSecretFor = oldSecretFor
	SecretPrefix = secretPrefix
)

// RaiseChanged is one turn of telling Redis of versions.
func (ts *Topics) RaiseChanged(ctx context.Context) error { return ts.raiseChanged(ctx) }

func NewSecret() string { return newSecret() }

func ValidSecret(secret string) bool { return validSecret(secret) }

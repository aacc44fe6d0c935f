package auth

import (
	"errors"
	"fmt"
	"strings"
)

// The values of auth.mode.
const (
	ModeJWT    = "jwt"
	ModeHeader = "header"
)

// Config says how shoppers and administrators prove who they are. With both a secret and a public key, the key
// verifies shoppers and the secret administrators.
type Config struct {
	Mode          string `koanf:"mode"`            // jwt or header
	Secret        string `koanf:"secret"`          // HS256 key, at least 32 bytes
	PublicKeyFile string `koanf:"public_key_file"` // PEM: RSA (RS256), ECDSA (ES256, ES384, ES512) or Ed25519 (EdDSA)
	Issuer        string `koanf:"issuer"`          // when set, iss must equal it
	Audience      string `koanf:"audience"`        // when set, aud must contain it
	Header        string `koanf:"header"`          // header mode: where a trusted proxy puts the user
}

// DefaultConfig returns a configuration for signed tokens. The secret or key must be configured.
func DefaultConfig() Config { return Config{Mode: ModeJWT} }

// Validate returns every bad value by its key and never quotes the secret.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.Mode == ModeJWT && c.Secret == "" && c.PublicKeyFile == "":
		errs = append(errs, errors.New("auth.mode jwt needs auth.secret (at least 32 bytes) or auth.public_key_file"))
	case c.Mode == ModeHeader && !validHeaderName(c.Header):
		errs = append(errs, fmt.Errorf("auth.mode header needs auth.header, the name of an HTTP header, got %q",
			c.Header))
	case c.Mode != ModeJWT && c.Mode != ModeHeader:
		errs = append(errs, fmt.Errorf("auth.mode must be jwt or header, got %q", c.Mode))
	}
	if c.Secret != "" && len(c.Secret) < minSecretBytes {
		errs = append(errs, fmt.Errorf("auth.secret must have at least %d bytes, got %d", minSecretBytes,
			len(c.Secret)))
	}
	if strings.Contains(c.Secret, "-----BEGIN") {
		errs = append(errs,
			errors.New(
				"auth.secret holds a PEM block: a public key is no secret; name its file in auth.public_key_file"))
	}
	return errors.Join(errs...)
}

func validHeaderName(name string) bool {
	const allowed = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return name != "" && strings.Trim(name, allowed) == ""
}

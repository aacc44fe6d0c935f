package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// loadPublicKey reads a public key. The key's type decides the algorithm, so that a token cannot choose it.
func loadPublicKey(file string) (jwt.SigningMethod, any, error) {
	data, err := os.ReadFile(file) // #nosec G304 -- named by the configuration
	if err != nil {
		return nil, nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, nil, errors.New("must hold exactly one PEM block")
	}
	var key any
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, nil, fmt.Errorf("must hold a PUBLIC KEY, got %q", block.Type)
	}
	if err != nil {
		return nil, nil, err
	}
	method, err := methodOf(key)
	return method, key, err
}

func methodOf(key any) (jwt.SigningMethod, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return nil, fmt.Errorf("an RSA key must have at least 2048 bits, got %d", key.N.BitLen())
		}
		return jwt.SigningMethodRS256, nil
	case *ecdsa.PublicKey:
		for _, method := range []*jwt.SigningMethodECDSA{jwt.SigningMethodES256, jwt.SigningMethodES384,
			jwt.SigningMethodES512} {
			if method.CurveBits == key.Curve.Params().BitSize {
				return method, nil
			}
		}
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA, nil
	}
	return nil, errors.New("the key must be RSA, ECDSA on P-256, P-384 or P-521, or Ed25519")
}

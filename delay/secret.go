package delay

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

const secretPrefix = "whsec_"

// newSecret returns a fresh signing secret of 32 bytes.
func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(raw)
}

func validSecret(secret string) bool {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(text)
	return ok && err == nil && len(raw) >= 24 && len(raw) <= 64
}

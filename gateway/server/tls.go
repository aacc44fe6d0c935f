package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often a listener checks its files for changes.
const certificateCheck = time.Second

// Certificate is a certificate with its key, reloaded when its files change. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	stamp   string    // state of the files when they were last read
	looked  time.Time // when they were last checked
}

// LoadCertificate reads a certificate and its key from PEM files. It fails if they do not match.
func LoadCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: now, looked: now()}
	c.stamp = c.fileStamp()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.current = &pair
	return c, nil
}

// Config returns a configuration for TLS 1.2 or newer with this certificate.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get returns the certificate for a handshake. If the files cannot be read it logs that once and returns the old one.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if age := now.Sub(c.looked); age >= 0 && age < certificateCheck {
		return c.current, nil
	}
	c.looked = now
	stamp := c.fileStamp()
	if stamp == c.stamp {
		return c.current, nil
	}
	c.stamp = stamp
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("certificate not renewed: the old one stays", "cert", c.certFile, "key", c.keyFile, "error", err)
		return c.current, nil
	}
	c.current = &pair
	c.log.Info("certificate renewed", "cert", c.certFile)
	return c.current, nil
}

// fileStamp returns a text that changes when one of the two files changes.
func (c *Certificate) fileStamp() string {
	stamp := ""
	for _, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			stamp += "missing;"
			continue
		}
		stamp += fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp
}

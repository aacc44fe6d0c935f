package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often a listener looks whether its files have changed.
const certificateCheck = time.Second

// Certificate is a certificate with its key, read again when its files change. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	stamp   string    // of the files when they were read last
	looked  time.Time // when they were looked at last
}

// LoadCertificate reads PEM files; it fails when they do not belong together.
func LoadCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: now, looked: now()}
	c.stamp = c.stampOf()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	c.current = &pair
	return c, nil
}

// Config is TLS 1.2 or newer with this certificate.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// get answers a handshake. Files that cannot be read keep the old certificate, and are said to be wrong once.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if age := now.Sub(c.looked); age >= 0 && age < certificateCheck {
		return c.current, nil
	}
	c.looked = now
	stamp := c.stampOf()
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

// stampOf tells one state of the two files from another.
func (c *Certificate) stampOf() string {
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

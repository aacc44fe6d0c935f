package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

func (c Config) validateTLS() error {
	if c.CAFile != "" && c.Driver == SQLite {
		return errors.New("database.ca_file: is for mysql and postgres, an SQLite file is not reached by network")
	}
	return nil
}

// encryption trusts the certificates of CAFile, for a server at addr (host or host:port), and nobody else.
func (c Config) encryption(addr string) (*tls.Config, error) {
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("database.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("database.ca_file: %s holds no PEM certificate", c.CAFile)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}, nil
}

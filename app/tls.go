package app

import (
	"crypto/tls"
	"net/http"

	"sluice/gateway/server"
)

// encryption returns the TLS configuration of a certificate, or nil if none is configured.
func (a *App) encryption(cert, key string) (*tls.Config, error) {
	if cert == "" {
		return nil, nil
	}
	c, err := server.LoadCertificate(cert, key, a.logFor("tls"), a.opt.Now)
	if err != nil {
		return nil, err
	}
	return c.Config(), nil
}

// server returns a server for h. plain says which requests the express server may take; nil: none.
func (a *App) server(
	h http.Handler, encrypted *tls.Config, plain func(method, path string) bool, part string,
) *server.Server {
	return server.NewServer(a.cfg.HTTP, h, encrypted, plain, a.logFor(part))
}

package app

import (
	"crypto/tls"
	"net/http"

	"sluice/gateway/server"
)

// encryption is nil where no certificate is configured.
func (a *App) encryption(cert, key string) (*tls.Config, error) {
	if cert == "" {
		return nil, nil
	}
	c, err := server.LoadCertificate(cert, key, a.part("tls"), a.opt.Now)
	if err != nil {
		return nil, err
	}
	return c.Config(), nil
}

// server serves h; plain says which requests the express lane may take, nil: none.
func (a *App) server(
	h http.Handler, encrypted *tls.Config, plain func(method, path string) bool, part string,
) *server.Server {
	return server.NewServer(a.cfg.HTTP, h, encrypted, plain, a.part(part))
}

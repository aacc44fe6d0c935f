// Package http3 stands in for the HTTP/3 server that Gin names and nothing here
// starts. See the README of the folder above.
package http3

import (
	"errors"
	"net/http"
)

// ListenAndServeQUIC fails.
func ListenAndServeQUIC(_, _, _ string, _ http.Handler) error {
	return errors.New("HTTP/3 is not built in")
}

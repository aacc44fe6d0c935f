package channel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"sluice/notify"
	"sluice/notify/webhook"
)

const (
	// maxAnswer bounds how much of a receiver's answer is read, in bytes. A longer answer closes the connection.
	maxAnswer = 64 << 10
	// explainTime is how long exchange waits for a body that only explains its status.
	explainTime = time.Second
)

// exchange sends req and returns the answer with the part of its body that came within patience. The status is known
// by then, so a body that breaks or never ends is no failure.
func exchange(client *http.Client, req *http.Request, patience time.Duration) (*http.Response, []byte, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	defer time.AfterFunc(patience, cancel).Stop()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp, body, nil
}

// classify turns a receiver's status into a Result. 2xx is delivered. 429, and 503 with Retry-After, pause the
// channel. Other 5xx, redirects, and refusals of the caller, the address or the method are faults of the channel.
// Every message would meet them. 408 and 425 are tried again. Everything else ends the message.
func classify(resp *http.Response, now time.Time) notify.Result {
	what := "http status " + strconv.Itoa(resp.StatusCode)
	wait := webhook.RetryAfter(resp.Header.Get("Retry-After"), now)
	switch status := resp.StatusCode; {
	case status/100 == 2:
		return notify.Delivered()
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && wait > 0:
		return notify.Hold(wait, what)
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		return notify.Retry(what)
	case status/100 == 5, status/100 == 3, status == http.StatusUnauthorized, status == http.StatusForbidden,
		status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusMisdirectedRequest,
		status == http.StatusProxyAuthRequired:
		return notify.Unreachable(what)
	}
	return notify.Permanent(what)
}

// networkErrorText describes a network error without quoting it. The error's own text may contain an address, a URL
// with its token or a server's reply.
func networkErrorText(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, webhook.ErrPrivateAddress):
		return webhook.ErrPrivateAddress.Error()
	case errors.As(err, &dns):
		return "the host name could not be resolved"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		return "its certificate is not trusted"
	case errors.As(err, &alert), errors.As(err, &header):
		return "the TLS handshake failed"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return "the connection broke"
	}
	return fmt.Sprintf("unreachable (%T)", errors.Unwrap(err))
}

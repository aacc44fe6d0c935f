package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

const (
	opsTimeout   = 30 * time.Second // for one request and its answer
	opsMaxAnswer = 16 << 20         // bytes
	opsTokenTTL  = 5 * time.Minute
)

// opsClient talks to the operations listener of a running system as an
// administrator. Requests and answers are bounded in time and size.
type opsClient struct {
	base     string // URL without a slash at its end
	newToken func() (string, error)
	hint     string // what to do when the token is refused
	http     *http.Client
}

func (c *cli) opsFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&c.ops, "ops", "", "`URL` of the operations listener (default: ops.addr of the configuration)")
	cmd.PersistentFlags().StringVar(&c.ca, "ca", "", "PEM `file` of the certificates to trust there (default: ops.ca_file of the configuration)")
}

// withOps runs do with a client of the operations listener.
func (c *cli) withOps(ctx context.Context, do func(context.Context, *opsClient) error) error {
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"ops"}})
	if err != nil {
		return err
	}
	if c.ca != "" {
		loaded.Config.Ops.CAFile = c.ca
	}
	base, err := opsURL(c.ops, loaded.Config.Ops)
	if err != nil {
		return err
	}
	trust, err := opsTrust(loaded.Config.Ops.CAFile)
	if err != nil {
		return err
	}
	o := &opsClient{base: base, http: &http.Client{
		Timeout:   opsTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, ForceAttemptHTTP2: true, TLSClientConfig: trust},
		// A redirect would carry the administrator's token somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer o.http.CloseIdleConnections()
	if err := c.authorize(o, loaded.Config.Auth); err != nil {
		return err
	}
	return do(ctx, o)
}

// authorize takes the token of the environment or, without one, mints tokens.
func (c *cli) authorize(o *opsClient, cfg auth.Config) error {
	if token := c.getenv("SLUICE_TOKEN"); token != "" {
		o.newToken = func() (string, error) { return token, nil }
		o.hint = "is SLUICE_TOKEN an administrator's and not expired?"
		return nil
	}
	if cfg.Secret == "" {
		return errors.New("no administrator's token: set SLUICE_TOKEN (sluice token --admin mints one), " +
			"or let this command mint it by configuring auth.secret (SLUICE_AUTH__SECRET or --config)")
	}
	o.newToken = func() (string, error) {
		return auth.Mint(cfg, c.operator(), true, opsTokenTTL, c.now())
	}
	o.hint = "is auth.secret here the one of the running system?"
	return nil
}

// operator names who uses the command line, for the admin log.
func (c *cli) operator() string {
	name := c.getenv("USER")
	if name == "" || len(name) > 64 || strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "cli"
	}
	return "cli:" + name
}

// opsURL is where the operations listener is: what --ops says, else addr of
// the configuration, where a wildcard means this machine.
func opsURL(flag string, ops server.OpsConfig) (string, error) {
	addr, scheme := ops.Addr, "http://"
	if ops.TLSCert != "" || ops.CAFile != "" {
		scheme = "https://"
	}
	if flag == "" {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "" || port == "0" {
			return "", fmt.Errorf("ops.addr %q names no port to connect to: set --ops", addr)
		}
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return scheme + net.JoinHostPort(host, port), nil
	}
	text := flag
	if !strings.Contains(text, "://") {
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", badUsage("--ops wants a URL such as http://127.0.0.1:8081, got %q", flag)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// opsTrust is whom the command line believes to be the operations listener; nil means the system's certificates.
func opsTrust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile) // #nosec G304 -- named by who runs the command
	if err != nil {
		return nil, fmt.Errorf("certificates to trust (--ca, ops.ca_file): %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates to trust (--ca, ops.ca_file): %s holds no PEM certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}

// get asks for path, which may carry a query, and returns the JSON answered.
func (o *opsClient) get(ctx context.Context, path string) ([]byte, error) {
	return o.call(ctx, http.MethodGet, path, nil)
}

// call sends body as JSON and returns the JSON answered. A refusal is an
// apiError.
func (o *opsClient) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	return o.callIf(ctx, method, path, "", body)
}

// callIf is call for a change that was decided on what had the ETag match;
// without one it has no condition.
func (o *opsClient) callIf(ctx context.Context, method, path, match string, body any) ([]byte, error) {
	if match == "" {
		return o.send(ctx, method, path, nil, body)
	}
	return o.send(ctx, method, path, map[string]string{"If-Match": match}, body)
}

func (o *opsClient) send(ctx context.Context, method, path string, headers map[string]string, body any) ([]byte, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	token, err := o.newToken()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+"/admin/v1"+path, sent)
	if err != nil {
		return nil, o.at(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	resp, err := o.http.Do(req)
	if err != nil {
		return nil, o.unanswered(method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, opsMaxAnswer+1))
	switch {
	case err != nil:
		return nil, o.unanswered(method, err)
	case len(text) > opsMaxAnswer:
		return nil, o.at(fmt.Errorf("the answer to %s %s is longer than %d bytes", method, path, opsMaxAnswer))
	case resp.StatusCode/100 != 2:
		return nil, o.refusal(resp, text)
	case resp.StatusCode == http.StatusNoContent:
		return nil, nil
	case !json.Valid(text):
		return nil, o.at(errors.New("answered with something else than JSON: is it the operations listener? set --ops"))
	}
	return text, nil
}

// errMaybeDone marks a change that was sent and got no answer.
var errMaybeDone = errors.New("it may have been done all the same")

// unanswered says why there is no answer, and of a change that was sent, that nobody knows what came of it.
func (o *opsClient) unanswered(method string, err error) error {
	why := o.unreachable(err)
	if dial, ok := errors.AsType[*net.OpError](err); method == http.MethodGet || ok && dial.Op == "dial" {
		return why
	}
	return fmt.Errorf("%w; %w", why, errMaybeDone)
}

func (o *opsClient) at(err error) error { return fmt.Errorf("operations listener %s: %w", o.base, err) }

// unreachable says in few words why there is no answer.
func (o *opsClient) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return o.at(errors.New("no answer in time: is sluice running? set --ops"))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		reason := op.Err
		for inner := errors.Unwrap(reason); inner != nil; inner = errors.Unwrap(reason) {
			reason = inner
		}
		return o.at(fmt.Errorf("%w: is sluice running? set --ops", reason))
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return o.at(err)
}

// apiError is a problem document of the operations listener.
type apiError struct {
	Code      string           `json:"code"`
	Detail    string           `json:"detail"`
	RequestID string           `json:"request_id"`
	Errors    []api.FieldError `json:"errors"`
	Body      []byte           `json:"-"` // the whole answer
}

func (e apiError) Error() string {
	text := e.Code + ": " + e.Detail
	if len(e.Errors) > 0 {
		fields := make([]string, len(e.Errors))
		for i, f := range e.Errors {
			fields[i] = f.Field + ": " + f.Detail
		}
		text += " (" + strings.Join(fields, "; ") + ")"
	}
	if e.Code == string(api.CodeInternal) && e.RequestID != "" {
		text += " (request_id " + e.RequestID + ")"
	}
	return printable(text)
}

func (o *opsClient) refusal(resp *http.Response, text []byte) error {
	problem := apiError{Body: text}
	if err := json.Unmarshal(text, &problem); err != nil || problem.Code == "" {
		return o.at(fmt.Errorf("answered %s: is it the operations listener? set --ops", printable(resp.Status)))
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return o.at(fmt.Errorf("%w: %s", problem, o.hint))
	}
	return problem
}

// printable keeps what another machine wrote on one line and out of the
// terminal's controls.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

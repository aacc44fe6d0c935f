package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

// opsTokenTTL is how long a token that a command mints is valid.
const opsTokenTTL = 5 * time.Minute

func (c *cli) opsFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&c.ops, "ops", "",
		"`URL` of the operations listener (default: ops.addr of the configuration)")
	cmd.PersistentFlags().StringVar(&c.ca, "ca", "",
		"PEM `file` of the certificates to trust there (default: ops.ca_file of the configuration)")
}

// opsCommand adds the flags of a command that calls the operations listener.
func (c *cli) opsCommand(cmd *cobra.Command) *cobra.Command {
	c.opsFlag(cmd)
	c.jsonFlag(cmd)
	return cmd
}

// withOps runs do with a client of the operations listener.
func (c *cli) withOps(ctx context.Context, do func(context.Context, *opsclient.Client) error) error {
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"ops"}})
	if err != nil {
		return err
	}
	if c.ca != "" {
		loaded.Config.Ops.CAFile = c.ca
	}
	var p opsclient.Params
	if p.Base, err = opsURL(c.ops, loaded.Config.Ops); err != nil {
		return err
	}
	if p.Trust, err = loadTrust(loaded.Config.Ops.CAFile); err != nil {
		return err
	}
	if err := c.authorize(&p, loaded.Config.Auth); err != nil {
		return err
	}
	o := opsclient.New(p)
	defer o.Close()
	return do(ctx, o)
}

// authorize sets p.Token to the token of the environment or, without one, to a function that mints tokens.
func (c *cli) authorize(p *opsclient.Params, cfg auth.Config) error {
	if token := c.getenv("SLUICE_TOKEN"); token != "" {
		p.Token = func() (string, error) { return token, nil }
		p.Hint = "is SLUICE_TOKEN an administrator's and not expired?"
		return nil
	}
	if cfg.Secret == "" {
		return errors.New("no administrator's token: set SLUICE_TOKEN (sluice token --admin mints one), " +
			"or let this command mint it by configuring auth.secret (SLUICE_AUTH__SECRET or --config)")
	}
	p.Token = func() (string, error) {
		return auth.Mint(cfg, c.operator(), true, opsTokenTTL, c.now())
	}
	p.Hint = "is auth.secret here the one of the running system?"
	return nil
}

// operator returns the name of the user of the command line, for the admin log.
func (c *cli) operator() string {
	name := c.getenv("USER")
	if name == "" || len(name) > 64 || strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "cli"
	}
	return "cli:" + name
}

// opsURL returns the address of the operations listener: --ops, else addr of the configuration.
func opsURL(flag string, ops server.OpsConfig) (string, error) {
	return listenerURL(listenerPlace{flag: "--ops", value: flag, key: "ops.addr", addr: ops.Addr,
		tls: ops.TLSCert != "" || ops.CAFile != ""})
}

// listenerPlace is where a listener is: what its flag says, else its key of the configuration.
type listenerPlace struct {
	flag, value string
	key, addr   string
	tls         bool // of addr
}

// listenerURL returns the address of a listener. A wildcard means this machine.
func listenerURL(p listenerPlace) (string, error) {
	scheme := "http://"
	if p.tls {
		scheme = "https://"
	}
	if p.value == "" {
		host, port, err := net.SplitHostPort(p.addr)
		if err != nil || port == "" || port == "0" {
			return "", fmt.Errorf("%s %q names no port to connect to: set %s", p.key, p.addr, p.flag)
		}
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return scheme + net.JoinHostPort(host, port), nil
	}
	text := p.value
	if !strings.Contains(text, "://") {
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", badUsage("%s wants a URL such as http://127.0.0.1:8081, got %q", p.flag, p.value)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// loadTrust returns the certificates to trust for the operations listener, or nil for the system's.
func loadTrust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile) // #nosec G304 -- named by the user
	if err != nil {
		return nil, fmt.Errorf("certificates to trust (--ca, ops.ca_file): %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates to trust (--ca, ops.ca_file): %s holds no PEM certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}

// layout formats an answer for people.
type layout func(answer []byte) (string, error)

// newLayout returns a layout that decodes a T and formats it with show.
func newLayout[T any](show func(T) string) layout {
	return func(text []byte) (string, error) {
		var answer T
		if err := json.Unmarshal(text, &answer); err != nil {
			return "", err
		}
		return show(answer), nil
	}
}

// printShown prints an answer as show formats it, or unchanged with --json.
func (c *cli) printShown(text []byte, show layout) error {
	if c.asJSON {
		return c.printRaw(text)
	}
	lines, err := show(text)
	if err != nil {
		return fmt.Errorf("the answer is not readable: %w", err)
	}
	return c.print(lines)
}

// call sends a request and prints the answer. show may be nil if there is no answer.
func (c *cli) call(ctx context.Context, r opsclient.Request, show layout) error {
	return c.withOps(ctx, func(ctx context.Context, o *opsclient.Client) error {
		text, err := o.Send(ctx, r)
		if err != nil || show == nil {
			return err
		}
		return c.printShown(text, show)
	})
}

// fetch gets path and prints the answer.
func (c *cli) fetch(ctx context.Context, path string, show layout) error {
	return c.call(ctx, opsclient.Request{Method: "GET", Path: path}, show)
}

// changeFlags are the flags of every command that changes settings of a running system.
type changeFlags struct{ reason, duration string }

func (f *changeFlags) add(cmd *cobra.Command) {
	reasonFlag(cmd, &f.reason)
	cmd.Flags().StringVar(&f.duration, "for", "", "a `duration` such as 10m, then back to what counted before")
}

// reasonFlag adds --reason.
func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for the admin log")
}

// body adds the flags to the values to change.
func (f *changeFlags) body(values map[string]any) map[string]any {
	values["reason"] = f.reason
	if f.duration != "" {
		values["for"] = f.duration
	}
	return values
}

// changeVersion reads the version at path and sends r on the condition that the version still holds. If another change
// came first it tries again, at most tries times in all. That is safe because r names absolute values.
func (c *cli) changeVersion(ctx context.Context, path string, tries int, r opsclient.Request, show layout) error {
	return c.withOps(ctx, func(ctx context.Context, o *opsclient.Client) error {
		for try := 1; ; try++ {
			text, err := o.Get(ctx, path)
			if err != nil {
				return err
			}
			var now api.ConfigVersion
			if err := json.Unmarshal(text, &now); err != nil {
				return o.Wrap(fmt.Errorf("the version of the configuration is not readable: %w", err))
			}
			r.IfMatch = strconv.Quote(number(now.Version))
			text, err = o.Send(ctx, r)
			if refused, ok := errors.AsType[opsclient.Error](err); ok && refused.Code == api.CodeStale && try < tries {
				continue
			}
			if err != nil {
				return err
			}
			return c.printShown(text, show)
		}
	})
}

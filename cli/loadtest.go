package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/gateway/server"
)

// loadtestMaxUsers bounds one list of targets: 100 million are some 60 GB.
const loadtestMaxUsers = 100_000_000

func newLoadtestCommand(c *cli) *cobra.Command {
	return newGroup("loadtest", "Prepare load tests",
		"  sluice loadtest targets --sale summer --users 100000 --format vegeta > targets.json",
		newTargetsCommand(c))
}

// targets is one list of orders with tokens, each for a different user.
type targets struct {
	sale, base, prefix string
	users              int
	ttl                time.Duration
	auth               auth.Config
	now                func() time.Time
}

func newTargetsCommand(c *cli) *cobra.Command {
	var t targets
	var format, base string
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "Write ready-signed orders, one user a line",
		Long: "targets signs with auth.secret of the configuration and needs no running system. It writes as it " +
			"goes: a million users take\na few megabytes of memory. The formats: k6 (a JSON object with user, " +
			"token and key), vegeta (its JSON targets), wrk (path,\ntoken, key and body with tabs between, for " +
			"loadtest/wrk/targets.lua).",
		Example: "  sluice loadtest targets --sale summer --users 100000 --format vegeta > targets.json\n" +
			"  sluice loadtest targets --sale summer --users 1000000 --format wrk --url " +
			"https://staging.shop.example > targets.tsv",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, err := targetFormat(format)
			if err != nil {
				return err
			}
			if err := t.check(); err != nil {
				return err
			}
			loaded, err := c.loadOptions(configs.Options{Sections: []string{"auth", "http"}})
			if err != nil {
				return err
			}
			if t.base, err = shopURL(base, loaded.Config.HTTP); err != nil {
				return err
			}
			t.auth, t.now = loaded.Config.Auth, c.now
			return t.write(cmd.Context(), c.out, write)
		},
	}
	cmd.Flags().StringVar(&t.sale, "sale", "", "the sale to order from (required)")
	cmd.Flags().IntVar(&t.users, "users", 0, "how many users, 1 to 100000000 (required)")
	cmd.Flags().StringVar(&format, "format", "", "k6, vegeta or wrk (required)")
	cmd.Flags().StringVar(&base, "url", "", "`URL` of the public listener (default: http.addr of the configuration)")
	cmd.Flags().StringVar(&t.prefix, "prefix", "load-",
		"what the users' names begin with; another one for each run on the same sale")
	cmd.Flags().DurationVar(&t.ttl, "ttl", 24*time.Hour, "how long the tokens are valid")
	needFlags(cmd, "sale", "users", "format")
	return cmd
}

func (t *targets) check() error {
	switch {
	case t.users < 1 || t.users > loadtestMaxUsers:
		return badUsage("--users must be between 1 and %d, got %d", loadtestMaxUsers, t.users)
	case t.ttl < time.Second:
		return badUsage("--ttl must be at least 1s, got %s", t.ttl)
	case strings.ContainsFunc(t.prefix, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '\\'
	}) || len(t.prefix) > 64:
		return badUsage(
			"--prefix must be at most 64 printable ASCII characters without spaces, quotes and backslashes, got %q",
			t.prefix)
	}
	return checkSaleID(t.sale)
}

// write streams the list to w. It returns soon after ctx ends.
func (t *targets) write(ctx context.Context, w io.Writer, line func(*targets, target) (string, error)) error {
	out := bufio.NewWriterSize(w, 1<<16)
	for n := 1; n <= t.users && ctx.Err() == nil; n++ {
		user := t.prefix + strconv.Itoa(n)
		token, err := auth.Mint(t.auth, user, false, t.ttl, t.now())
		if err != nil {
			return err
		}
		text, err := line(t, target{User: user, Token: token, Key: user + "-" + t.sale})
		if err != nil {
			return err
		}
		if _, err := out.WriteString(text + "\n"); err != nil {
			return fmt.Errorf("write target %d of %d: %w", n, t.users, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the last targets: %w", err)
	}
	return nil
}

func (t *targets) path() string { return "/v1/sales/" + t.sale + "/orders" }

// shopURL returns the address of the public listener: --url, else addr of the configuration. A wildcard means this
// machine.
func shopURL(flag string, cfg server.HTTPConfig) (string, error) {
	if flag == "" {
		base, err := opsURL("", server.OpsConfig{Addr: cfg.Addr, TLSCert: cfg.TLSCert})
		if err != nil {
			return "", fmt.Errorf("http.addr %q names no port to connect to: set --url", cfg.Addr)
		}
		return base, nil
	}
	u, err := url.Parse(flag)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return "", badUsage("--url wants a URL such as http://127.0.0.1:8080, got %q", flag)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

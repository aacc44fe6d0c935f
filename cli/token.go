package cli

import (
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/gateway/auth"
)

// tokenFlags is what a token is to say.
type tokenFlags struct {
	user               string
	admin              bool
	role               string
	publish, subscribe []string
	ttl                time.Duration
}

func newTokenCommand(c *cli) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Mint a signed token for development, load tests and the shop's other systems",
		Long: "token signs with auth.secret of the configuration. It needs no running system.\n" +
			"With --publish or --subscribe the token is another system's, for the work listener alone.",
		Example: "  sluice token --user ann\n  export SLUICE_TOKEN=$(sluice token --user ops --admin --ttl 1h)\n  " +
			"sluice token --user watch --role viewer\n  " +
			"sluice token --user logistics --publish points,sms --subscribe stock --ttl 720h",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.token(f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.user, "user", "", "whom the token speaks for (required, but of another system)")
	flags.BoolVar(&f.admin, "admin", false, "let it administer the system, as --role admin")
	flags.StringVar(&f.role, "role", "", "what it may do on the operations listener: viewer, operator or admin")
	flags.StringSliceVar(&f.publish, "publish", nil, "`topics` to which another system may add messages")
	flags.StringSliceVar(&f.subscribe, "subscribe", nil,
		"`subscriptions` whose messages another system may receive")
	flags.DurationVar(&f.ttl, "ttl", 24*time.Hour, "how long it is valid")
	c.jsonFlag(cmd)
	return cmd
}

// check refuses flags that do not fit together, and fills in what they leave open.
func (f *tokenFlags) check() error {
	work := len(f.publish)+len(f.subscribe) > 0
	switch {
	case f.ttl < time.Second:
		return badUsage("--ttl must be at least 1s, got %s", f.ttl)
	case work && (f.admin || f.role != ""):
		return badUsage("another system's token (--publish, --subscribe) has no role")
	case f.admin && f.role != "" && f.role != string(auth.RoleAdmin):
		return badUsage("--admin and --role %s exclude each other", f.role)
	case f.user == "" && !work:
		return badUsage(`required flag(s) "user" not set`)
	case f.user == "":
		f.user = "system"
	case f.admin:
		f.role = string(auth.RoleAdmin)
	}
	return nil
}

func (f *tokenFlags) mint(cfg auth.Config, now time.Time) (string, error) {
	if len(f.publish)+len(f.subscribe) > 0 {
		rights := auth.Rights{System: f.user, Publish: f.publish, Subscribe: f.subscribe}
		return auth.MintWork(cfg, rights, f.ttl, now)
	}
	return auth.MintFor(cfg, f.user, auth.Role(f.role), f.ttl, now)
}

func (c *cli) token(f tokenFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"auth"}})
	if err != nil {
		return err
	}
	now := c.now()
	token, err := f.mint(loaded.Config.Auth, now)
	if err != nil {
		return err
	}
	if !c.asJSON {
		return c.print(token + "\n")
	}
	shown := map[string]any{"token": token, "user": f.user, "admin": f.role == string(auth.RoleAdmin),
		"role": f.role, "expires_at": now.Add(f.ttl).UTC().Format(time.RFC3339)}
	if len(f.publish)+len(f.subscribe) > 0 {
		shown["publish"], shown["subscribe"] = f.publish, f.subscribe
	}
	return c.printJSON(shown)
}

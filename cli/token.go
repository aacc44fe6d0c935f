package cli

import (
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/gateway/auth"
)

func newTokenCommand(c *cli) *cobra.Command {
	var user string
	var admin bool
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Mint a signed token for development and load tests",
		Long:  "token signs with auth.secret of the configuration. It needs no running system.",
		Example: "  sluice token --user ann\n  export SLUICE_TOKEN=$(sluice token --user ops --admin --ttl 1h)\n  " +
			"sluice token --user watch --role viewer",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if ttl < time.Second {
				return badUsage("--ttl must be at least 1s, got %s", ttl)
			}
			switch {
			case admin && role != "" && role != string(auth.RoleAdmin):
				return badUsage("--admin and --role %s exclude each other", role)
			case admin:
				role = string(auth.RoleAdmin)
			}
			loaded, err := c.loadOptions(configs.Options{Sections: []string{"auth"}})
			if err != nil {
				return err
			}
			now := c.now()
			token, err := auth.MintFor(loaded.Config.Auth, user, auth.Role(role), ttl, now)
			if err != nil {
				return err
			}
			if !c.asJSON {
				return c.print(token + "\n")
			}
			return c.printJSON(map[string]any{"token": token, "user": user, "admin": role == string(auth.RoleAdmin),
				"role": role, "expires_at": now.Add(ttl).UTC().Format(time.RFC3339)})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "whom the token speaks for (required)")
	cmd.Flags().BoolVar(&admin, "admin", false, "let it administer the system, as --role admin")
	cmd.Flags().StringVar(&role, "role", "", "what it may do on the operations listener: viewer, operator or admin")
	cmd.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long it is valid")
	c.jsonFlag(cmd)
	needFlags(cmd, "user")
	return cmd
}

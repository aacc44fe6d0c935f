package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"sluice/configs"
)

func newConfigCommand(c *cli) *cobra.Command {
	check := &cobra.Command{
		Use:     "check",
		Short:   "Check the configuration and list everything that is wrong with it",
		Example: "  sluice config check --config configs/production.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return c.checkConfig() },
	}
	show := &cobra.Command{
		Use:     "print",
		Short:   "Print every key with its value and source, secrets masked",
		Long:    "print shows what is configured, even where check would still miss something.",
		Example: "  sluice config print --config configs/production.yaml --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// One section that always has a valid default: a missing secret must not hide the rest.
			loaded, err := c.loadOptions(configs.Options{Sections: []string{"log"}})
			if err != nil {
				return err
			}
			return loaded.Print(c.out, c.asJSON)
		},
	}
	c.jsonFlag(check)
	c.jsonFlag(show)
	return newGroup("config", "Check or print the configuration", "  sluice config check --config configs/production.yaml\n  sluice config print", check, show,
		newConfigShowCommand(c), newConfigSetCommand(c), newConfigRevertCommand(c), newConfigVersionsCommand(c), newConfigReloadCommand(c))
}

func (c *cli) checkConfig() error {
	_, err := c.load(nil)
	if !c.asJSON {
		if err != nil {
			return err
		}
		return c.print("the configuration is valid\n")
	}
	bad := []string{}
	if err != nil {
		bad = strings.Split(err.Error(), "\n")
		if len(bad) > 1 {
			bad = bad[1:] // the first line is a heading
		}
	}
	return errors.Join(err, c.printJSON(map[string]any{"valid": err == nil, "errors": bad}))
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"sluice/api"

	"github.com/spf13/cobra"
)

// changeFlags are what every change of a running system's settings may say.
type changeFlags struct{ reason, duration string }

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for the admin log")
	cmd.Flags().StringVar(&f.duration, "for", "", "a `duration` such as 10m, then back to what counted before")
}

// body adds the flags to what is to be changed.
func (f *changeFlags) body(values map[string]any) map[string]any {
	values["reason"] = f.reason
	if f.duration != "" {
		values["for"] = f.duration
	}
	return values
}

type configView struct {
	Version int64  `json:"version"`
	At      string `json:"at"`
	Actor   string `json:"actor"`
	Source  string `json:"source"`
	Reason  string `json:"reason"`
	Keys    []struct {
		Key     string            `json:"key"`
		Value   any               `json:"value"`
		Source  string            `json:"source"`
		Hot     bool              `json:"hot"`
		Until   string            `json:"until"`
		UntilOf map[string]string `json:"until_of"`
	} `json:"keys"`
	Left []string `json:"left_out"`
}

// withVersion runs change with the ETag of the configuration at path, and
// again, at most tries times, when somebody else changed it in between: what is set is named
// outright and does not depend on what was there.
func (c *cli) withVersion(ctx context.Context, path string, tries int, show func([]byte) (string, error), change func(context.Context, *opsClient, string) ([]byte, error)) error {
	return c.withOps(ctx, func(ctx context.Context, o *opsClient) error {
		for try := 1; ; try++ {
			text, err := o.get(ctx, path)
			if err != nil {
				return err
			}
			var now configView
			if err := json.Unmarshal(text, &now); err != nil {
				return o.at(fmt.Errorf("the version of the configuration is not readable: %w", err))
			}
			text, err = change(ctx, o, strconv.Quote(strconv.FormatInt(now.Version, 10)))
			if refused, ok := errors.AsType[apiError](err); ok && refused.Code == string(api.CodeStale) && try < tries {
				continue
			}
			if err != nil {
				return err
			}
			return c.printShown(text, show)
		}
	})
}

// printShown prints an answer as show lays it out, or as it is with --json.
func (c *cli) printShown(text []byte, show func([]byte) (string, error)) error {
	if c.asJSON {
		return c.printRaw(text)
	}
	lines, err := show(text)
	if err != nil {
		return fmt.Errorf("the answer is not readable: %w", err)
	}
	return c.print(lines)
}

// fetch prints what is at path.
func (c *cli) fetch(cmd *cobra.Command, path string, show func([]byte) (string, error)) error {
	return c.withOps(cmd.Context(), func(ctx context.Context, o *opsClient) error {
		text, err := o.get(ctx, path)
		if err != nil {
			return err
		}
		return c.printShown(text, show)
	})
}

// opsCommand finishes a command that talks to the operations listener.
func (c *cli) opsCommand(cmd *cobra.Command) *cobra.Command {
	c.opsFlag(cmd)
	c.jsonFlag(cmd)
	return cmd
}

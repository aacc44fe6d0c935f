package cli

import (
	"context"
	"maps"
	"strings"

	"sluice/configs"
)

// load reads the whole configuration; flags has the values that the command's own flags give to keys.
func (c *cli) load(flags map[string]any) (*configs.Loaded, error) {
	return c.loadOptions(configs.Options{Flags: flags})
}

// loadSteady loads the configuration of a long-running process. It waits for a file that is being written.
func (c *cli) loadSteady(ctx context.Context, flags map[string]any) (*configs.Loaded, error) {
	steady := func(opts configs.Options) (*configs.Loaded, error) { return configs.LoadSteady(ctx, opts) }
	return c.loadFrom(steady, configs.Options{Flags: flags})
}

// loadOptions loads the configuration for a command that needs only some sections or has its own defaults.
func (c *cli) loadOptions(opts configs.Options) (*configs.Loaded, error) {
	return c.loadFrom(configs.Load, opts)
}

// loadFrom adds file, environment and --set to opts and loads.
func (c *cli) loadFrom(
	load func(configs.Options) (*configs.Loaded, error), opts configs.Options,
) (*configs.Loaded, error) {
	flags := maps.Clone(opts.Flags)
	if flags == nil {
		flags = make(map[string]any, len(c.set))
	}
	for _, pair := range c.set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, badUsage("--set wants key=value such as queue.cap=500, got %q", pair)
		}
		flags[key] = value
	}
	opts.File, opts.Env, opts.Flags = c.file, c.env, flags
	loaded, err := load(opts)
	if err != nil && blamesFlag(err) {
		err = usageError{err}
	}
	return loaded, err
}

// blamesFlag reports whether the error is about a value that came by flag. Every line of the error ends with its
// source.
func blamesFlag(err error) bool {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.HasSuffix(line, "(flag)") {
			return true
		}
	}
	return false
}

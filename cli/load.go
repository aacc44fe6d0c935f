package cli

import (
	"context"
	"maps"
	"strings"

	"sluice/configs"
)

// load reads the whole configuration; flags holds values the command's own
// flags give to keys.
func (c *cli) load(flags map[string]any) (*configs.Loaded, error) {
	return c.loadOptions(configs.Options{Flags: flags})
}

// loadSteady is load for a process that goes by the configuration from now on.
func (c *cli) loadSteady(ctx context.Context, flags map[string]any) (*configs.Loaded, error) {
	steady := func(opts configs.Options) (*configs.Loaded, error) { return configs.LoadSteady(ctx, opts) }
	return c.loadBy(steady, configs.Options{Flags: flags})
}

// loadOptions is load for a command that needs only some sections or has
// defaults of its own.
func (c *cli) loadOptions(opts configs.Options) (*configs.Loaded, error) {
	return c.loadBy(configs.Load, opts)
}

// loadBy adds file, environment and --set to what is loaded.
func (c *cli) loadBy(
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

// blamesFlag reports whether a value that came by flag is at fault: every line
// of the error ends with its source.
func blamesFlag(err error) bool {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.HasSuffix(line, "(flag)") {
			return true
		}
	}
	return false
}

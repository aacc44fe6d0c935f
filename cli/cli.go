// Package cli is the command line: one file for each resource, and the demonstration.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
)

// ExitFailure is the exit code of a command that failed.
const ExitFailure = 1

// The other exit codes.
const (
	exitSuccess = 0
	exitFailure = ExitFailure
	exitUsage   = 2
	exitUnknown = 3
)

// Process is what a command line runs in.
type Process struct {
	Version   string // given at link time, "dev" when none was
	Args, Env []string
	Out, Err  io.Writer // data, and everything else
}

// unknownError says that an audit could not be made, so that its result is unknown.
type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// usageError says that the command line itself is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func badUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// cli is one command line being executed. Data goes to out, everything else
// to err.
type cli struct {
	out, err io.Writer
	env      []string // NAME=value
	version  string   // given at link time
	now      func() time.Time

	file   string   // --config
	set    []string // --set
	asJSON bool     // --json
	ops    string   // --ops of the commands that talk to a running system
	ca     string   // --ca of the same

	running bool // the command line was parsed and its command has begun
	level   slog.LevelVar
}

// Run executes one command line and returns the exit code. It is 0 for success, 1 for failure and 2 for wrong usage. It
// is 3 for an audit that could not be made. Errors go to p.Err. Run returns soon after ctx ends.
func Run(ctx context.Context, p Process) int {
	c := &cli{out: p.Out, err: p.Err, env: p.Env, version: p.Version, now: time.Now}
	root := newRootCommand(c)
	root.SetArgs(append([]string{}, p.Args...)) // nil would mean the arguments of the process
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitSuccess
	}
	code, text := exitFailure, err.Error()
	if _, unknown := errors.AsType[unknownError](err); unknown {
		code = exitUnknown
	}
	if _, wrong := errors.AsType[usageError](err); wrong || !c.running {
		code = exitUsage
		text += fmt.Sprintf(" (see %s --help)", cmd.CommandPath())
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	separator := "\n  "
	if strings.Count(text, "\n") == 1 { // a heading with only one line below
		separator = " "
	}
	fmt.Fprintf(p.Err, "sluice: %s\n", strings.ReplaceAll(text, "\n", separator))
	return code
}

func newRootCommand(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "Sell a fixed stock to a crowd that arrives all at once",
		Example:       "  sluice demo\n  sluice serve --config configs/production.yaml\n  sluice sale list",
		Args:          cobra.ArbitraryArgs,
		RunE:          needCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(c.out)
	root.SetErr(c.err)
	flags := root.PersistentFlags()
	flags.StringVar(&c.file, "config", "", "YAML configuration `file`")
	flags.StringArrayVar(&c.set, "set", nil,
		"set one configuration key, before environment and file; repeatable (`key=value`)")
	root.AddCommand(newDemoCommand(c), newServeCommand(c), newSaleCommand(c), newOrderCommand(c), newQueueCommand(c),
		newDeadCommand(c), newEventsCommand(c), newTopicCommand(c), newSubscriptionCommand(c), newAuditCommand(c),
		newAdminLogCommand(c),
		newRebuildCommand(c), newNotifyCommand(c), newPaymentCommand(c), newLimitsCommand(c), newSwitchCommand(c),
		newInstancesCommand(c),
		newWorkersCommand(c),
		newLogLevelCommand(c), newTokenCommand(c), newLoadtestCommand(c), newMigrateCommand(c), newConfigCommand(c),
		newVersionCommand(c))
	root.SetHelpCommand(newHelpCommand(root))
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args, completion.RunE = cobra.ArbitraryArgs, needCommand
	}
	c.noteStart(root)
	return root
}

// noteStart notes that a command begins. What cobra refuses before that is wrong usage: unknown flags and commands, bad
// values, missing arguments.
func (c *cli) noteStart(cmd *cobra.Command) {
	if begin := cmd.RunE; begin != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			c.running = true
			return begin(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		c.noteStart(sub)
	}
}

// newGroup returns a command that only has subcommands.
func newGroup(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs, RunE: needCommand}
	cmd.AddCommand(subs...)
	return cmd
}

// needCommand runs a group without a subcommand: it returns an error that lists the group's commands.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	if !cmd.HasParent() {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return badUsage("a command is missing after %q: one of %s", cmd.CommandPath(), strings.Join(names, ", "))
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return badUsage("unknown command %q for %s, did you mean %s?",
			name, cmd.CommandPath(), strings.Join(near, " or "))
	}
	return badUsage("unknown command %q for %s", name, cmd.CommandPath())
}

func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [command]",
		Short:   "Explain a command",
		Example: "  sluice help sale create",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return unknownCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// needFlags makes flags required.
func needFlags(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag: a mistake of the command's author
		}
	}
}

func (c *cli) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON")
}

// logger writes to standard error.
func (c *cli) logger(cfg configs.LogConfig) *slog.Logger {
	c.level.Set(cfg.SlogLevel())
	opts := &slog.HandlerOptions{Level: &c.level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(c.err, opts))
	}
	return slog.New(slog.NewJSONHandler(c.err, opts))
}

// getenv returns the last environment variable of that name, or "" when there is none.
func (c *cli) getenv(name string) (value string) {
	for _, pair := range c.env {
		if text, ok := strings.CutPrefix(pair, name+"="); ok {
			value = text
		}
	}
	return value
}

package check

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/stretchr/testify/require"
)

func TestDockerfile(t *testing.T) {
	t.Parallel()
	file, err := parser.Parse(bytes.NewReader(read(t, "../Dockerfile")))
	require.NoError(t, err)
	require.Empty(t, file.Warnings)
	var warnings []string
	stages, _, err := instructions.Parse(file.AST, linter.New(&linter.Config{Warn: func(rule, _, _, message string,
		_ []parser.Range) {
		warnings = append(warnings, rule+": "+message)
	}}))
	require.NoError(t, err)
	require.Empty(t, warnings)
	require.Len(t, stages, 2)

	var build, user string
	args := map[string]bool{}
	for _, command := range stages[0].Commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			build += strings.Join(run.CmdLine, " ")
		}
	}
	for _, command := range stages[1].Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.ArgCommand:
			for _, a := range c.Args {
				args[a.Key] = true
			}
		case *instructions.RunCommand:
			require.Fail(t, "the final image has no shell to run anything with")
		}
	}
	require.Contains(t, build, "CGO_ENABLED=0", "the final image has no C library")
	require.Contains(t, build, "-X main.version=$VERSION")
	require.Equal(t, "65532:65532", user, "a number: Kubernetes cannot tell whether a name is root")
	require.Equal(t, []string{"REVISION", "VERSION"}, slices.Sorted(maps.Keys(args)))
	require.Contains(t, stages[1].BaseName, "static", "certificates, and nothing that runs")
}

package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoGlobalsAndNoInit(t *testing.T) {
	t.Parallel()
	var found []string
	for _, p := range listPackages(t) {
		if strings.HasPrefix(roomOf(p.ImportPath), testkit) {
			continue // one process has one set of tests, and they share servers
		}
		for _, name := range p.GoFiles {
			file := parse(t, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			for _, global := range globals(file) {
				found = append(found, fmt.Sprintf("%s/%s: %s", p.ImportPath, name, global))
			}
		}
	}
	require.Empty(t, found, "pass values to constructors instead")
}

// parse reads a file, or src in its place.
func parse(t *testing.T, path string, src any, mode parser.Mode) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, src, mode)
	require.NoError(t, err)
	return file
}

// globals names the init functions of a file and its package variables that
// can change while the program runs.
func globals(file *ast.File) []string {
	var found []string
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				found = append(found, "func init")
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR || embedded(d.Doc) {
				continue
			}
			for _, spec := range d.Specs {
				found = append(found, variables(file.Name.Name, spec.(*ast.ValueSpec))...)
			}
		}
	}
	return found
}

// variables names those of one declaration that are not constants in all but name.
func variables(pkg string, spec *ast.ValueSpec) []string {
	if embedded(spec.Doc) {
		return nil
	}
	var found []string
	for i, name := range spec.Names {
		switch {
		case name.Name == "_": // asserts that a type satisfies an interface
		case pkg == "main" && name.Name == "version": // set by the linker
		case i < len(spec.Values) && fixed(spec.Values[i]):
		default:
			found = append(found, "var "+name.Name)
		}
	}
	return found
}

// embedded reports whether a declaration is filled from a file at build time.
func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// fixed reports whether a value is a sentinel error or a compiled pattern.
func fixed(value ast.Expr) bool {
	if pointer, ok := value.(*ast.UnaryExpr); ok {
		literal, ok := pointer.X.(*ast.CompositeLit)
		return ok && strings.HasSuffix(fmt.Sprint(literal.Type), "Error") // a sentinel of a type of its own
	}
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	makers := []string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}
	return slices.Contains(makers, fmt.Sprintf("%s.%s", function.X, function.Sel))
}

func TestGlobalsAreFound(t *testing.T) {
	t.Parallel()
	file := parse(t, "bad.go", `package bad
		func init() {}
		var a int
		var ( b = map[string]int{}; ErrC, d = errors.New("c"), newD() )
		var version = "1"`, parser.ParseComments)
	require.Equal(t, []string{"func init", "var a", "var b", "var d", "var version"}, globals(file))

	file = parse(t, "good.go", `package main
		const limit = 3
		type t struct{}
		func (t) init() {}
		var version = "dev"
		var _ io.Reader = t{}
		var (
			ErrA = errors.New("a")
			ErrB = fmt.Errorf("b: %w", ErrA)
			name = regexp.MustCompile("a")
			//go:embed *.lua
			scripts embed.FS
		)
		//go:embed admit.lua
		var admit string
		func f() { var local int; _ = local }`, parser.ParseComments)
	require.Empty(t, globals(file))
}

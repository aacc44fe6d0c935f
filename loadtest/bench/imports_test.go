package main

import (
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingOfSluiceIsImported checks that the benchmark imports nothing of Sluice but the starting of stores.
func TestNothingOfSluiceIsImported(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, more...) {
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if strings.HasPrefix(path, "sluice/") && path != "sluice/internal/testkit/servers" &&
				!strings.HasPrefix(path, "sluice/loadtest/bench/") {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

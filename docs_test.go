package main_test

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/configs"
)

// house is what documents may name.
type house struct {
	paths   map[string]bool            // files and folders
	bases   map[string]bool            // last elements of paths
	tests   map[string]map[string]bool // tests, fuzz tests and benchmarks by folder, and all of them under ""
	targets map[string]bool            // of make
	keys    map[string]bool            // of the configuration, and what they begin with
	code    string                     // all that is not a test
}

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	makeTarget   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)

	quoted     = regexp.MustCompile("`([^`\n]+)`")
	link       = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	source     = regexp.MustCompile(`\.(go|lua|md|ya?ml)$`)
	pathName   = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)+/?$|^[\w-]+/$|^[\w.-]+\.(go|lua|md|ya?ml)$`)
	testName   = regexp.MustCompile(`\bTest[A-Z]\w+`)
	testOfRoom = regexp.MustCompile("`([a-z0-9/]+)` (Test[A-Z]\\w+(?:(?:, | and )Test[A-Z]\\w+)*)")
	makeCall   = regexp.MustCompile("(?m)(?:`|^ {4}|^\\$ )make ([a-z][a-z-]*)")
	keyName    = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)
)

func lookAround(t *testing.T) house {
	t.Helper()
	h := house{paths: map[string]bool{}, bases: map[string]bool{}, tests: map[string]map[string]bool{"": {}},
		targets: map[string]bool{}, keys: map[string]bool{}}
	var code strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "data"}, name) {
			return filepath.SkipDir
		}
		h.paths[name], h.bases[d.Name()] = true, true
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(name, "_test.go") {
			code.Write(text)
			return nil
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(text), -1) {
			folder := filepath.Dir(name)
			if h.tests[folder] == nil {
				h.tests[folder] = map[string]bool{}
			}
			h.tests[folder][m[1]], h.tests[""][m[1]] = true, true
		}
		return nil
	}))
	h.code = code.String()
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		h.targets[m[1]] = true
	}
	for _, key := range configs.Fixed(configs.Default()).Keys() {
		for name := key.Path(); name != "."; name = strings.TrimSuffix(name, path.Ext(name)) {
			h.keys[name] = true
			if !strings.Contains(name, ".") {
				break
			}
		}
	}
	return h
}

// unknown lists what a document names and the house does not have. folder is where the document is.
func (h house) unknown(folder, text string) (wrong []string) {
	no := func(ok bool, what, name string) {
		if !ok {
			wrong = append(wrong, what+" "+name)
		}
	}
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(m[1], ":") {
			no(h.paths[filepath.Join(folder, m[1])], "link to", m[1])
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		name := m[1]
		section, _, _ := strings.Cut(name, ".")
		switch {
		case pathName.MatchString(name):
			no(h.has(name), "path", name)
		case keyName.MatchString(name) && h.keys[section]:
			// What has the form of a key may also be a word of the code: an event, a step, an action.
			no(h.keys[name] || strings.Contains(h.code, `"`+name+`"`), "key", name)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		for _, name := range testName.FindAllString(line, -1) {
			pattern := strings.Contains(line, "-run") && slices.ContainsFunc(slices.Collect(maps.Keys(h.tests[""])),
				func(test string) bool { return strings.HasPrefix(test, name) })
			no(pattern || h.tests[""][name], "test", name)
		}
	}
	for _, m := range testOfRoom.FindAllStringSubmatch(text, -1) {
		for _, name := range testName.FindAllString(m[2], -1) {
			no(h.tests[m[1]][name] || !h.tests[""][name], "in "+m[1]+" no test", name)
		}
	}
	for _, m := range makeCall.FindAllStringSubmatch(text, -1) {
		no(h.targets[m[1]], "make", m[1])
	}
	return wrong
}

// has reports whether a file or folder is here. A name alone may be anywhere; a path that begins in none of our folders
// is of another module, or of what a program writes, unless it ends like a source.
func (h house) has(name string) bool {
	name = strings.TrimSuffix(name, "/")
	first, _, deep := strings.Cut(name, "/")
	if !deep || !h.paths[first] && source.MatchString(name) {
		return h.bases[path.Base(name)]
	}
	return h.paths[name] || !h.paths[first] || first == "."
}

// Whatever the documents name is there: files, tests, make targets, keys of the configuration.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	h := lookAround(t)
	documents := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md", "docs/events/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		documents = append(documents, found...)
	}
	require.Greater(t, len(documents), 10)
	var wrong []string
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, name := range h.unknown(filepath.Dir(document), string(text)) {
			wrong = append(wrong, document+": "+name)
		}
	}
	require.Empty(t, wrong)
}

func TestWhatDoesNotExistIsFound(t *testing.T) {
	t.Parallel()
	h := lookAround(t)
	for text, want := range map[string]string{
		"`order/nosuch.go`":                     "path order/nosuch.go",
		"`nosuch.go`":                           "path nosuch.go",
		"`nosuch/`":                             "path nosuch/",
		"[here](nosuch.md#part)":                "link to nosuch.md",
		"see TestNoSuch":                        "test TestNoSuch",
		"`gateway` TestImportsFollowTheTable":   "in gateway no test TestImportsFollowTheTable",
		"`make nosuch`":                         "make nosuch",
		"`queue.nosuch`":                        "key queue.nosuch",
		"    go test -run 'TestNoSuch|TestDoc'": "test TestNoSuch",
	} {
		require.Equal(t, []string{want}, h.unknown("docs", text), text)
	}
	for _, text := range []string{"`order/insert.go` and `insert.go`", "`order/`", "`github.com/panjf2000/ants`",
		"[here](architecture.md)", "[there](https://example.com/nosuch.md)", "TestDocumentsNameWhatExists",
		"`make test`", "make sure", "`queue.cap`", "`notify.email`", "`text/html`", "`order.confirmed`",
		"    go test -run 'TestDocuments'"} {
		require.Empty(t, h.unknown("docs", text), text)
	}
}

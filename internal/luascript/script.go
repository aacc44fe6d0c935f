// Package luascript calls Lua scripts in Redis. It adds to each script the library functions that it uses and calls it
// by its digest. It can join several calls into one. It knows nothing about the scripts' purpose.
package luascript

import (
	"context"
	"crypto/sha1" // #nosec G505 -- Redis names scripts so
	_ "embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"
)

// Script is one Lua script.
type Script struct {
	name   string
	single source
	many   source // makes several calls in one; see many.lua
}

// source is a script's text and the digest by which it is called.
type source struct{ text, sha string }

//go:embed many.lua
var many string

//go:embed common.lua
var common string

// Library is a folder of scripts with shared functions.
type Library struct {
	files  fs.FS
	shared []function
}

// function is one of those that scripts share.
type function struct {
	name, text string
	words      map[string]bool
}

// NewLibrary returns the scripts of a folder; the file shared has their shared functions. It panics if that cannot be
// read, because scripts are embedded in the build.
func NewLibrary(files fs.FS, shared string) Library {
	l := Library{files: files}
	l.shared = functions(common + "\n" + l.read(shared))
	return l
}

// Load returns the script in the file name.lua. It panics if there is none.
func (l Library) Load(name string) Script { return newScript(name, l.shared, l.read(name)) }

// New returns a script that belongs to no library.
func New(name, text string) Script { return newScript(name, functions(common+"\n"), text) }

func newScript(name string, shared []function, own string) Script {
	repeated := "local function once(KEYS, ARGV)\n" + own + "\nend\n\n" + many
	return Script{name: name, single: newSource(link(shared, own)), many: newSource(link(shared, repeated))}
}

func (l Library) read(name string) string {
	text, err := fs.ReadFile(l.files, name+".lua")
	if err != nil {
		panic(err)
	}
	return string(text)
}

func newSource(text string) source {
	sum := sha1.Sum([]byte(text)) // #nosec G401 -- Redis names scripts so
	return source{text: text, sha: hex.EncodeToString(sum[:])}
}

// functions returns the functions of a shared text, in which a blank line ends each.
func functions(shared string) (all []function) {
	for text := range strings.SplitAfterSeq(shared, "\n\n") {
		_, declared, _ := strings.Cut("\n"+text, "\nlocal ")
		name := strings.FieldsFunc(strings.TrimPrefix(declared, "function "), betweenWords)
		if len(name) > 0 {
			all = append(all, function{name: name[0], text: text, words: wordsOf(text)})
		}
	}
	return all
}

// link puts in front of a script the shared functions that it uses. Redis makes each anew in every call, and most
// scripts use few. No function uses a later one.
func link(shared []function, own string) string {
	var kept []string
	used := wordsOf(own)
	for _, one := range slices.Backward(shared) {
		if used[one.name] {
			kept = append(kept, one.text)
			maps.Copy(used, one.words)
		}
	}
	slices.Reverse(kept)
	return strings.Join(kept, "") + own
}

// wordsOf returns the words of a Lua text, those of its comments aside.
func wordsOf(text string) map[string]bool {
	words := map[string]bool{}
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "--")
		for word := range strings.FieldsFuncSeq(code, betweenWords) {
			words[word] = true
		}
	}
	return words
}

func betweenWords(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// Run calls the script by its digest, or by its text when Redis does not know it.
func (s Script) Run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) (any, error) {
	v, err := rdb.EvalSha(ctx, s.single.sha, keys, args...).Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		v, err = rdb.Eval(ctx, s.single.text, keys, args...).Result()
	}
	return v, s.Failed(err, keys)
}

// Failed adds the script's name and its first key to an error; nil stays nil.
func (s Script) Failed(err error, keys []string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redis script %s on %s: %w", s.name, keys[0], err)
}

// RunInt calls a script that returns a number.
func (s Script) RunInt(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) (int64, error) {
	v, err := s.Run(ctx, rdb, keys, args...)
	return s.Int(v, err, keys)
}

// Int reads the reply of a script that returns a number.
func (s Script) Int(reply any, err error, keys []string) (int64, error) {
	if err != nil {
		return 0, err
	}
	n, ok := reply.(int64)
	if !ok {
		return 0, fmt.Errorf("redis script %s on %s answered %T, not a number", s.name, keys[0], reply)
	}
	return n, nil
}

// RunList calls a script that returns a list.
func (s Script) RunList(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) ([]any, error) {
	v, err := s.Run(ctx, rdb, keys, args...)
	return s.List(v, err, keys)
}

// List reads the reply of a script that returns a list.
func (s Script) List(reply any, err error, keys []string) ([]any, error) {
	if err != nil {
		return nil, err
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("redis script %s on %s answered %T, not a list", s.name, keys[0], reply)
	}
	return list, nil
}

// Queue calls the script by its digest within a pipeline. The reply is NOSCRIPT when Redis does not know the script;
// Install changes that.
func (s Script) Queue(ctx context.Context, pipe redis.Scripter, keys []string, args ...any) *redis.Cmd {
	return pipe.EvalSha(ctx, s.single.sha, keys, args...)
}

// Install loads the script into a Redis.
func (s Script) Install(ctx context.Context, rdb redis.Scripter) error {
	return rdb.ScriptLoad(ctx, s.single.text).Err()
}

package queue

import (
	"context"
	"crypto/sha1" // #nosec G505 -- Redis names scripts so
	"embed"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one Lua script of a line, with what it uses of the shared functions in front.
type script struct {
	name string
	text
	many text // makes several calls of it in one: see together.go
}

// text is what Redis runs, and the digest by which it is called.
type text struct{ source, sha string }

func loadScript(name string) script {
	shared, own := readSource("record"), readSource(name)
	return script{name: name, text: newText(link(shared, own)), many: newText(link(shared, repeat(own)))}
}

func readSource(name string) string {
	source, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // embedded at build time: cannot be missing
	}
	return string(source)
}

func newText(source string) text {
	sum := sha1.Sum([]byte(source)) // #nosec G401 -- Redis names scripts so
	return text{source: source, sha: hex.EncodeToString(sum[:])}
}

// link puts in front of a script what it uses of the shared functions: Redis makes each anew in every call, and most scripts
// use few. A blank line ends each, and none uses a later one.
func link(shared, own string) string {
	var kept []string
	used := wordsOf(own)
	for _, one := range slices.Backward(strings.SplitAfter(shared, "\n\n")) {
		_, declared, _ := strings.Cut("\n"+one, "\nlocal ")
		name := strings.FieldsFunc(strings.TrimPrefix(declared, "function "), betweenWords)
		if len(name) > 0 && used[name[0]] {
			kept = append(kept, one)
			maps.Copy(used, wordsOf(one))
		}
	}
	slices.Reverse(kept)
	return strings.Join(kept, "") + own
}

func wordsOf(text string) map[string]bool {
	words := map[string]bool{}
	for word := range strings.FieldsFuncSeq(text, betweenWords) {
		words[word] = true
	}
	return words
}

func betweenWords(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// run calls the script by its digest and loads it when Redis does not know it.
func (s script) run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) (any, error) {
	v, err := rdb.EvalSha(ctx, s.sha, keys, args...).Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		v, err = rdb.Eval(ctx, s.source, keys, args...).Result()
	}
	return v, s.failed(err, keys[0])
}

// failed names the script and the line of an error, if there is one.
func (s script) failed(err error, key string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redis script %s on %s: %w", s.name, key, err)
}

// runInt is run for scripts that return one number.
func (s script) runInt(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) (int64, error) {
	v, err := s.run(ctx, rdb, keys, args...)
	return s.number(v, err, keys)
}

func (s script) number(v any, err error, keys []string) (int64, error) {
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("redis script %s on %s answered %T, not a number", s.name, keys[0], v)
	}
	return n, nil
}

// runList is run for scripts that return a list.
func (s script) runList(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) ([]any, error) {
	v, err := s.run(ctx, rdb, keys, args...)
	return s.list(v, err, keys)
}

func (s script) list(v any, err error, keys []string) ([]any, error) {
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("redis script %s on %s answered %T, not a list", s.name, keys[0], v)
	}
	return list, nil
}

// scripts are all scripts of a line.
type scripts struct {
	admit, claim, settle, reclaim, promote, cancel, release, requeue, drop, honour, lose, since, lost script
	pay, overdue, revive, refund                                                                      script
	configure, recap, view, chores, leases, snapshot, gate, restore, reopen, discard                  script
}

func loadScripts() scripts {
	return scripts{
		admit: loadScript("admit"), claim: loadScript("claim"), settle: loadScript("settle"), reclaim: loadScript("reclaim"),
		promote: loadScript("promote"), cancel: loadScript("cancel"), release: loadScript("release"), configure: loadScript("configure"),
		requeue: loadScript("requeue"), drop: loadScript("drop"), honour: loadScript("honour"), lose: loadScript("lose"), since: loadScript("since"), lost: loadScript("lost"),
		recap: loadScript("recap"), pay: loadScript("pay"), overdue: loadScript("overdue"), revive: loadScript("revive"), refund: loadScript("refund"),
		view: loadScript("view"), chores: loadScript("chores"), leases: loadScript("leases"), snapshot: loadScript("snapshot"),
		gate: loadScript("gate"), restore: loadScript("restore"), reopen: loadScript("reopen"),
		discard: loadScript("discard"),
	}
}

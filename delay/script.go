package delay

import (
	"context"
	"embed"
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

// script is one Lua script of a topic, with the shared record functions in front.
type script struct {
	name string
	lua  *redis.Script
}

func loadScript(name string) script {
	shared, err := sources.ReadFile("lua/record.lua")
	if err != nil {
		panic(err) // embedded at build time: cannot be missing
	}
	own, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err)
	}
	return script{name: name, lua: redis.NewScript(string(shared) + string(own))}
}

// run calls the script by its digest and sends its source when Redis does not know it.
func (s script) run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) ([]any, error) {
	v, err := s.lua.Run(ctx, rdb, keys, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("redis script delay/%s on %s: %w", s.name, keys[0], err)
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("redis script delay/%s on %s answered %T, not a list", s.name, keys[0], v)
	}
	return list, nil
}

// each calls the script for several keys in one round trip. An answer may be an empty list; each has an error of its own.
func (s script) each(ctx context.Context, rdb redis.UniversalClient, keys []string) (answers [][]any, failed []error) {
	pipe := rdb.Pipeline()
	replies := make([]*redis.Cmd, len(keys))
	for i, key := range keys {
		replies[i] = s.lua.EvalSha(ctx, pipe, []string{key})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	answers, failed = make([][]any, len(keys)), make([]error, len(keys))
	for i, key := range keys {
		v, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			v, err = s.lua.Eval(ctx, rdb, []string{key}).Result()
		}
		if list, ok := v.([]any); err == nil && ok {
			answers[i] = list
		} else if err == nil {
			err = fmt.Errorf("it answered %T, not a list", v)
		}
		if err != nil {
			failed[i] = fmt.Errorf("redis script delay/%s on %s: %w", s.name, key, err)
		}
	}
	return answers, failed
}

// scripts are all scripts of a topic.
type scripts struct{ add, head, claim, settle, reclaim, cancel, show, retry, drop, forget script }

func loadScripts() scripts {
	return scripts{add: loadScript("add"), head: loadScript("head"), claim: loadScript("claim"), settle: loadScript("settle"), reclaim: loadScript("reclaim"),
		cancel: loadScript("cancel"), show: loadScript("show"), retry: loadScript("retry"), drop: loadScript("drop"), forget: loadScript("forget")}
}

package delay

import (
	"context"
	"embed"
	"io/fs"

	"github.com/redis/go-redis/v9"

	"sluice/internal/luascript"
)

//go:embed lua/*.lua
var sources embed.FS

// scripts has every script that works on a topic. They share lua/record.lua.
type scripts struct {
	add, head, claim, settle, reclaim, cancel, show, retry, drop, forget luascript.Script
}

func loadScripts() scripts {
	folder, err := fs.Sub(sources, "lua")
	if err != nil {
		panic(err) // the name of the folder is valid
	}
	load := luascript.NewLibrary(folder, "record").Load
	return scripts{
		add: load("add"), head: load("head"), claim: load("claim"), settle: load("settle"), reclaim: load("reclaim"),
		cancel: load("cancel"), show: load("show"), retry: load("retry"), drop: load("drop"), forget: load("forget"),
	}
}

// runEach calls a script for several keys in one round trip. It returns a reply, which may be empty, and an error for
// each key.
func runEach(ctx context.Context, rdb redis.UniversalClient, s luascript.Script, keys []string) ([][]any, []error) {
	pipe := rdb.Pipeline()
	replies := make([]*redis.Cmd, len(keys))
	for i, key := range keys {
		replies[i] = s.Queue(ctx, pipe, []string{key})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	answers, failed := make([][]any, len(keys)), make([]error, len(keys))
	for i, key := range keys {
		v, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			answers[i], failed[i] = s.RunList(ctx, rdb, []string{key})
			continue
		}
		answers[i], failed[i] = s.List(v, s.Failed(err, []string{key}), []string{key})
	}
	return answers, failed
}

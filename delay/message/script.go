package message

import (
	"embed"
	"io/fs"

	"sluice/internal/luascript"
)

//go:embed lua/*.lua
var sources embed.FS

// scripts has every script that works on a topic or a subscription. They share lua/record.lua.
type scripts struct {
	add, head, claim, settle, extend, release, reclaim, cancel, show, retry, drop, forget, erase, raise luascript.Script
}

func loadScripts() scripts {
	folder, err := fs.Sub(sources, "lua")
	if err != nil {
		panic(err) // the name of the folder is valid
	}
	load := luascript.NewLibrary(folder, "record").Load
	return scripts{
		add: load("add"), head: load("head"), claim: load("claim"), settle: load("settle"), reclaim: load("reclaim"),
		extend: load("extend"), release: load("release"), cancel: load("cancel"), show: load("show"),
		retry: load("retry"), drop: load("drop"), forget: load("forget"), erase: load("erase"), raise: load("raise"),
	}
}

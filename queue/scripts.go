package queue

import (
	"embed"
	"io/fs"

	"sluice/internal/luascript"
)

//go:embed lua/*.lua
var sources embed.FS

// newLibrary returns the scripts of this package, which share lua/record.lua.
func newLibrary() luascript.Library {
	folder, err := fs.Sub(sources, "lua")
	if err != nil {
		panic(err) // the name of the folder is valid
	}
	return luascript.NewLibrary(folder, "record")
}

// scripts has every script that works on a line.
type scripts struct {
	admit, claim, settle, reclaim, promote, cancel, release, requeue, drop, honour luascript.Script
	lose, since, lost, pay, overdue, revive, refund, configure, recap, view        luascript.Script
	maintenance, leases, snapshot, gate, restore, reopen, discard                  luascript.Script
}

func loadScripts() scripts {
	load := newLibrary().Load
	return scripts{
		admit: load("admit"), claim: load("claim"), settle: load("settle"), reclaim: load("reclaim"),
		promote: load("promote"), cancel: load("cancel"), release: load("release"), requeue: load("requeue"),
		drop: load("drop"), honour: load("honour"), lose: load("lose"), since: load("since"), lost: load("lost"),
		pay: load("pay"), overdue: load("overdue"), revive: load("revive"), refund: load("refund"),
		configure: load("configure"), recap: load("recap"), view: load("view"), maintenance: load("maintenance"),
		leases: load("leases"), snapshot: load("snapshot"), gate: load("gate"), restore: load("restore"),
		reopen: load("reopen"), discard: load("discard"),
	}
}

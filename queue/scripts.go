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
	admit, claim, settle, reclaim, promote, cancel, release, requeue, drop, readmit         luascript.Script
	lose, usersSince, reclaimed, pay, overdue, reclaimUnit, refund, configure, setCap, view luascript.Script
	maintenance, leases, snapshot, close, restore, reopen, discard                          luascript.Script
}

func loadScripts() scripts {
	load := newLibrary().Load
	return scripts{
		admit: load("admit"), claim: load("claim"), settle: load("settle"), reclaim: load("reclaim"),
		promote: load("promote"), cancel: load("cancel"), release: load("release"), requeue: load("requeue"),
		drop: load("drop"), readmit: load("readmit"), lose: load("lose"), usersSince: load("users_since"), reclaimed: load("reclaimed"),
		pay: load("pay"), overdue: load("overdue"), reclaimUnit: load("reclaim_unit"), refund: load("refund"),
		configure: load("configure"), setCap: load("set_cap"), view: load("view"), maintenance: load("maintenance"),
		leases: load("leases"), snapshot: load("snapshot"), close: load("close"), restore: load("restore"),
		reopen: load("reopen"), discard: load("discard"),
	}
}

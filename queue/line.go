// Package queue owns everything Sluice keeps in Redis. That is the bounded line of a sale, with its
// keys, its Lua scripts and the Go calls around them.
//
// It knows tickets, not orders. queue/worker drains lines, and its handler decides what becomes of
// a ticket. Why no ticket and no unit can be lost or doubled on the way is argued in
// docs/protocol.md.
package queue

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/internal/luascript"
	"sluice/store/redis"
)

// Bounds of what a line keeps of finished orders. The database keeps them all.
const (
	keepDone = 10_000 // records of finished orders still answered from Redis
	keepDead = 10_000 // dead letters kept for an operator
	// released orders an audit can follow while it looks at the two stores
	keepReleased = 10_000
)

// Lines gives access to the line of every sale. Safe for concurrent use.
type Lines struct {
	names
	rdb        goredis.UniversalClient
	scripts    scripts
	table      *keyTable
	durability *redis.Durability // nil: whatever Redis keeps is enough

	instance     string // in whose name batches are claimed; empty: in nobody's
	number       int64  // of the instance, for a ticket's record; 0: none
	instanceText string // the same as a record has it
	cancels      int    // orders of a sale that one user may cancel; 0: no bound
}

// NewLines returns the lines kept in rdb under a prefix, redis.prefix.
func NewLines(rdb goredis.UniversalClient, prefix string) *Lines {
	return &Lines{names: namesOf(prefix), rdb: rdb, scripts: loadScripts(), table: &keyTable{prefix: prefix}}
}

// BoundCancels refuses further orders to users who have cancelled so many of a
// sale; 0: nobody is refused. Call it before the first admission.
func (ls *Lines) BoundCancels(most int) { ls.cancels = most }

// Of returns the line of a sale, whether or not it exists yet. The caller has
// validated the id: it becomes part of key names.
func (ls *Lines) Of(sale string) *Line { return &Line{Lines: ls, sale: sale, keys: ls.table.of(sale)} }

// ForInstance returns the same lines, as one instance uses them. It claims in its name, which Leases
// shows; empty: in nobody's. Tickets that it admits, takes back or cancels carry its number; 0: none.
func (ls *Lines) ForInstance(name string, number int64) *Lines {
	its := *ls
	its.instance, its.number, its.instanceText = name, number, numberOrEmpty(number)
	return &its
}

// InstanceNumber returns the number that ForInstance was given.
func (ls *Lines) InstanceNumber() int64 { return ls.number }

// ByServer groups sales by the server that holds their line, as the client knows it. There is one
// group unless Redis is a cluster. What is asked of one server waits for no other.
func (ls *Lines) ByServer(ctx context.Context, sales []string) map[string][]string {
	return apart.ByServer(ctx, ls.rdb, sales, func(sale string) string { return ls.table.of(sale).meta })
}

// Server returns the server that holds the line of a sale. It never waits.
func (ls *Lines) Server(sale string) string {
	return apart.ServerIfKnown(ls.rdb, ls.table.of(sale).meta)
}

// Line is the bounded line of one sale. Every method is one atomic step in
// Redis, or says otherwise. Safe for concurrent use.
type Line struct {
	*Lines
	sale string
	keys *keys
}

// Sale returns the id of the sale this line belongs to.
func (l *Line) Sale() string { return l.sale }

func toInt(v any) int64 {
	switch x := v.(type) {
	case int64:
		return x
	case string:
		n, _ := strconv.ParseInt(x, 10, 64)
		return n
	}
	return 0
}

// Time returns the time by Redis' clock.
func (ls *Lines) Time(ctx context.Context) (time.Time, error) {
	now, err := ls.rdb.Time(ctx).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		return time.Time{}, fmt.Errorf("ask redis for the time: %w", err)
	}
	return now, nil
}

//go:embed lua/*.lua
var sources embed.FS

// scripts has every script that works on a line. They share lua/record.lua.
type scripts struct {
	admit, claim, settle, reclaim, promote, cancel, release, requeue, drop, readmit         luascript.Script
	lose, usersSince, reclaimed, pay, overdue, reclaimUnit, refund, configure, setCap, view luascript.Script
	maintenance, leases, snapshot, close, restore, reopen, discard                          luascript.Script
}

func loadScripts() scripts {
	folder, err := fs.Sub(sources, "lua")
	if err != nil {
		panic(err) // the name of the folder is valid
	}
	load := luascript.NewLibrary(folder, "record").Load
	return scripts{
		admit: load("admit"), claim: load("claim"), settle: load("settle"), reclaim: load("reclaim"),
		promote: load("promote"), cancel: load("cancel"), release: load("release"), requeue: load("requeue"),
		drop: load("drop"), readmit: load("readmit"), lose: load("lose"), usersSince: load("users_since"),
		reclaimed: load("reclaimed"),
		pay:       load("pay"), overdue: load("overdue"), reclaimUnit: load("reclaim_unit"), refund: load("refund"),
		configure: load("configure"), setCap: load("set_cap"), view: load("view"), maintenance: load("maintenance"),
		leases: load("leases"), snapshot: load("snapshot"), close: load("close"), restore: load("restore"),
		reopen: load("reopen"), discard: load("discard"),
	}
}

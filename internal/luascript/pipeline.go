package luascript

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Calling a script costs Redis several times as much as its work for one order. Redis reads names and arguments,
// creates the shared functions, and writes a transaction into the append-only file. So many.lua makes several calls in
// one.
const (
	maxCalls = 32    // calls in one
	maxArgs  = 1_200 // arguments in one, unless a single call has more: other clients wait meanwhile
)

// Call is the KEYS and ARGV of one call of a script.
type Call struct {
	Keys []string
	Args []any
}

// Reply is what a script returned, or why it did not.
type Reply struct {
	Value any
	Err   error

	script Script
	keys   []string
}

// Int reads the reply of a script that returns a number.
func (r Reply) Int() (int64, error) { return r.script.Int(r.Value, r.Err, r.keys) }

// List reads the reply of a script that returns a list.
func (r Reply) List() ([]any, error) { return r.script.List(r.Value, r.Err, r.keys) }

// RunEach makes several calls in one round trip. It returns a reply or an error for each, in order. The script must not
// return a string.
func (s Script) RunEach(ctx context.Context, rdb redis.UniversalClient, calls []Call) []Reply {
	return s.runGroups(ctx, rdb, groupCalls(rdb, calls))
}

// refusal is an error of Redis in place of one call's reply.
type refusal string

func (r refusal) Error() string { return string(r) }

// RedisError marks the error as an answer of Redis, for redis.HasErrorPrefix.
func (refusal) RedisError() {}

// runGroups makes groups of calls in one round trip.
func (s Script) runGroups(ctx context.Context, rdb redis.UniversalClient, groups [][]Call) []Reply {
	pipe := rdb.Pipeline()
	to := redis.Scripter(pipe)
	if len(groups) == 1 {
		to = rdb // unlike a pipeline, it leaves a server that became a replica
	}
	sent := make([]*redis.Cmd, len(groups))
	for i, group := range groups {
		source, one := s.joinCalls(group)
		sent[i] = to.EvalSha(ctx, source.sha, one.Keys, one.Args...)
	}
	if len(groups) > 1 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	var replies []Reply
	for i, group := range groups {
		v, err := sent[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			source, one := s.joinCalls(group)
			v, err = rdb.Eval(ctx, source.text, one.Keys, one.Args...).Result()
		}
		// several servers behind one address; nothing was done
		if len(group) > 1 && redis.HasErrorPrefix(err, "CROSSSLOT") {
			replies = append(replies, s.runGroups(ctx, rdb, slices.Collect(slices.Chunk(group, 1)))...)
			continue
		}
		replies = append(replies, s.split(group, v, err)...)
	}
	return replies
}

// groupCalls splits calls into groups for one call each. In a cluster every group has one call, because all keys of a
// call must be in one slot.
func groupCalls(rdb redis.UniversalClient, calls []Call) [][]Call {
	most := maxCalls
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		most = 1
	}
	var groups [][]Call
	from, args := 0, 0
	for i, c := range calls {
		if i > from && (i-from == most || args+len(c.Args) > maxArgs) {
			groups, from, args = append(groups, calls[from:i]), i, 0
		}
		args += len(c.Args)
	}
	if from < len(calls) {
		groups = append(groups, calls[from:])
	}
	return groups
}

// joinCalls returns the call of many.lua that makes all calls of a group.
func (s Script) joinCalls(group []Call) (source, Call) {
	if len(group) == 1 {
		return s.single, group[0]
	}
	each, args := len(group[0].Keys), 1
	for _, c := range group {
		args += 1 + len(c.Args)
	}
	all := Call{Keys: make([]string, 0, each*len(group)), Args: make([]any, 0, args)}
	all.Args = append(all.Args, each)
	for _, c := range group {
		all.Keys = append(all.Keys, c.Keys...)
		all.Args = append(append(all.Args, len(c.Args)), c.Args...)
	}
	return s.many, all
}

// split splits the reply of many.lua into the replies of a group's calls.
func (s Script) split(group []Call, reply any, err error) []Reply {
	values := []any{reply}
	if len(group) > 1 && err == nil {
		if values, _ = reply.([]any); len(values) != len(group) {
			err = fmt.Errorf("%d calls in one got %d answers", len(group), len(values))
		}
	}
	replies := make([]Reply, len(group))
	for i, c := range group {
		replies[i] = Reply{script: s, keys: c.Keys, Err: s.Failed(err, c.Keys)}
		if err != nil {
			continue
		}
		if text, failed := values[i].(string); failed {
			replies[i].Err = s.Failed(refusal(text), c.Keys)
		} else {
			replies[i].Value = values[i]
		}
	}
	return replies
}

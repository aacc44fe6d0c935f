package queue

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// A call of a script costs Redis several times what it does for one order: it reads names and arguments, makes the shared
// functions, and writes a transaction of its own into the append-only file. And a round trip of many calls is read, and
// flushed to the disk, in pieces. So calls for several lines are made in few: lua/many.lua.
const (
	togetherCalls = 32    // most calls in one
	togetherArgs  = 1_200 // most arguments in one, unless a single call has more: Redis serves nobody else meanwhile
)

// repeat makes a script a function, and calls it as lua/many.lua says.
func repeat(own string) string {
	return "local function once(KEYS, ARGV)\n" + own + "\nend\n\n" + readSource("many")
}

// call is KEYS and ARGV of one call of a script.
type call struct {
	keys []string
	args []any
}

// answer is what a script returned, or why it did not.
type answer struct {
	script script
	keys   []string
	value  any
	err    error
}

func (a answer) number() (int64, error) { return a.script.number(a.value, a.err, a.keys) }

func (a answer) list() ([]any, error) { return a.script.list(a.value, a.err, a.keys) }

// each makes several calls in one round trip; the answers are in their order, each with an error of its own. As run, it loads
// the script where Redis does not know it.
func (s script) each(ctx context.Context, rdb redis.UniversalClient, calls []call) []answer {
	return s.together(ctx, rdb, grouped(rdb, calls))
}

// refusal is an error of Redis that stood in the place of an answer. No script that is called here answers with a text.
type refusal string

func (r refusal) Error() string { return string(r) }

// RedisError makes it one for go-redis: see redis.HasErrorPrefix.
func (refusal) RedisError() {}

// together makes groups of calls in one round trip.
func (s script) together(ctx context.Context, rdb redis.UniversalClient, groups [][]call) []answer {
	pipe := rdb.Pipeline()
	to := redis.Scripter(pipe)
	if len(groups) == 1 {
		to = rdb // who finds a replica leaves it, which a pipeline does not
	}
	replies := make([]*redis.Cmd, len(groups))
	for i, group := range groups {
		text, one := s.as(group)
		replies[i] = to.EvalSha(ctx, text.sha, one.keys, one.args...)
	}
	if len(groups) > 1 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	var answers []answer
	for i, group := range groups {
		v, err := replies[i].Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			text, one := s.as(group)
			v, err = rdb.Eval(ctx, text.source, one.keys, one.args...).Result()
		}
		if len(group) > 1 && redis.HasErrorPrefix(err, "CROSSSLOT") { // several servers behind one address: nothing was done
			answers = append(answers, s.together(ctx, rdb, slices.Collect(slices.Chunk(group, 1)))...)
			continue
		}
		answers = s.apart(answers, group, v, err)
	}
	return answers
}

// grouped cuts calls into groups that are made in one. The keys of a script's call must be on one server of a cluster, and
// those of several lines are not.
func grouped(rdb redis.UniversalClient, calls []call) [][]call {
	most := togetherCalls
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		most = 1
	}
	var groups [][]call
	from, args := 0, 0
	for i, c := range calls {
		if i > from && (i-from == most || args+len(c.args) > togetherArgs) {
			groups, from, args = append(groups, calls[from:i]), i, 0
		}
		args += len(c.args)
	}
	if from < len(calls) {
		groups = append(groups, calls[from:])
	}
	return groups
}

// as is how Redis is called for a group.
func (s script) as(group []call) (text, call) {
	if len(group) == 1 {
		return s.text, group[0]
	}
	each, args := len(group[0].keys), 1
	for _, c := range group {
		args += 1 + len(c.args)
	}
	all := call{keys: make([]string, 0, each*len(group)), args: make([]any, 0, args)}
	all.args = append(all.args, each)
	for _, c := range group {
		all.keys = append(all.keys, c.keys...)
		all.args = append(append(all.args, len(c.args)), c.args...)
	}
	return s.many, all
}

// apart appends the answers to the calls of a group.
func (s script) apart(answers []answer, group []call, reply any, err error) []answer {
	values := []any{reply}
	if len(group) > 1 && err == nil {
		if values, _ = reply.([]any); len(values) != len(group) {
			err = fmt.Errorf("%d calls in one got %d answers", len(group), len(values))
		}
	}
	for i, c := range group {
		a := answer{script: s, keys: c.keys, err: s.failed(err, c.keys[0])}
		if err == nil {
			if text, failed := values[i].(string); failed {
				a.err = s.failed(refusal(text), c.keys[0])
			} else {
				a.value = values[i]
			}
		}
		answers = append(answers, a)
	}
	return answers
}

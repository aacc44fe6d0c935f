package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// probeKey, after the prefix, stands for every key. Nothing is ever written to it.
const probeKey = ":{rights}"

// callsInUse has one call of each command that Sluice or its scripts use. P is the prefix, K a key, S a script's
// digest. The ACL line in docs/operations.md allows these, the transaction around them, and config|get.
const callsInUse = `
ping; time; info; publish P:wake x; publish P:status x; publish P:stock x; subscribe P:wake
eval S 1 K; evalsha S 1 K; script load S
get K; set K v; incrby K 1; decrby K 1; del K; unlink K; exists K; pexpire K 1
hget K f; hmget K f; hgetall K; hkeys K; hlen K; hexists K f; hscan K 0; hset K f v; hdel K f; hincrby K f 1
llen K; lindex K 0; lpos K v; lrange K 0 0; lpush K v; rpush K v; rpop K; lrem K 0 v; ltrim K 0 0
zcard K; zscore K v; zrange K 0 0; zrevrange K 0 0; zadd K 1 v; zrem K v
xadd K * f v; xrange K - +; xrevrange K + -; xtrim K MINID 0`

// Further calls that some modes of Redis need.
const (
	clusterCalls = "; cluster slots; command; asking"
	replicaCalls = "; wait 0 0"
)

// RightsError says which rights the user of Redis lacks.
type RightsError struct {
	Commands []string // as ACL rules name them
	Prefix   string   // redis.prefix
	Keys     bool     // not all keys that begin with the prefix may be used
	Channels []string
}

func (e *RightsError) Error() string {
	var rules, lacks []string
	for _, command := range e.Commands {
		rules = append(rules, "+"+command)
	}
	if len(rules) > 0 {
		lacks = append(lacks, "the commands "+strings.Join(e.Commands, ", "))
	}
	if e.Keys {
		lacks, rules = append(lacks, "keys that begin with "+e.Prefix+":"), append(rules, "~"+e.Prefix+":*")
	}
	if len(e.Channels) > 0 {
		lacks, rules = append(lacks, "the channels "+strings.Join(e.Channels, ", ")), append(rules, "&"+e.Prefix+":*")
	}
	return fmt.Sprintf("the user of redis.username may not use %s: run ACL SETUSER on it with %s "+
		"(docs/operations.md has the whole line)", strings.Join(lacks, " and "), strings.Join(rules, " "))
}

// checkRights returns a *RightsError unless the user may make every call in use. It queues the calls in a transaction
// and discards it. Redis checks rights when a command is queued. A server without transactions passes.
func checkRights(ctx context.Context, client *goredis.Client, cfg Config) error {
	conn := client.Conn()
	defer conn.Close()
	lack := RightsError{Prefix: prefixOf(cfg)}
	// Outside of a transaction it does nothing.
	lack.note([]any{"exec"}, conn.Do(ctx, "EXEC").Err())
	if err := conn.Do(ctx, "MULTI").Err(); err != nil {
		if !denied(err) {
			return notRefused(err)
		}
		lack.Commands = append(lack.Commands, "multi")
		return &lack
	}
	calls := callsFor(cfg)
	pipe := conn.Pipeline()
	for _, call := range calls {
		pipe.Do(ctx, call...)
	}
	queued, _ := pipe.Exec(ctx) // each command has its own error
	for i, cmd := range queued {
		lack.note(calls[i], cmd.Err())
	}
	if err := conn.Do(ctx, "DISCARD").Err(); err != nil {
		_ = conn.Do(ctx, "QUIT").Err() // or the connection's next user would be inside the transaction
		if !denied(err) {
			return notRefused(err)
		}
		lack.Commands = append(lack.Commands, "discard")
	}
	if len(lack.Commands) == 0 && !lack.Keys && len(lack.Channels) == 0 {
		return nil
	}
	return &lack
}

// notRefused returns an error that is no answer of Redis; then the rights stay unknown.
func notRefused(err error) error {
	if Unavailable(err) && Reason(err) == noAnswer {
		return err
	}
	return nil
}

// denied reports whether Redis refuses a call for lack of rights. EXEC's refusal comes inside another answer.
func denied(err error) bool {
	var answer goredis.Error
	return errors.As(err, &answer) && strings.Contains(answer.Error(), "NOPERM ")
}

// channelOf returns the channel of a call, or "" if it has none.
func channelOf(call []any) string {
	if len(call) < 2 {
		return ""
	}
	return fmt.Sprint(call[1])
}

// note adds the right that is missing according to the answer to a queued call.
func (e *RightsError) note(call []any, err error) {
	unknown := goredis.HasErrorPrefix(err, "unknown command") || goredis.HasErrorPrefix(err, "unknown subcommand")
	if !unknown && !denied(err) {
		return
	}
	switch text := err.Error(); {
	case !unknown && strings.Contains(text, "channel"):
		if channel := channelOf(call); !slices.Contains(e.Channels, channel) {
			e.Channels = append(e.Channels, channel)
		}
	case !unknown && strings.Contains(text, " key"):
		e.Keys = true
	default:
		if command := commandOf(call); !slices.Contains(e.Commands, command) {
			e.Commands = append(e.Commands, command)
		}
	}
}

func prefixOf(cfg Config) string { return cmp.Or(cfg.Prefix, DefaultPrefix) }

// callsFor returns the calls in use in the mode of cfg.
func callsFor(cfg Config) [][]any {
	text := callsInUse
	if cfg.Mode == ModeCluster {
		text += clusterCalls
	}
	if cfg.Durability == DurabilityReplicated {
		text += replicaCalls
	}
	var calls [][]any
	for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		var call []any
		for _, word := range strings.Fields(one) {
			switch word {
			case "K":
				word = prefixOf(cfg) + probeKey
			case "S":
				word = strings.Repeat("0", 40)
			}
			if name, channel := strings.CutPrefix(word, "P:"); channel {
				word = prefixOf(cfg) + ":" + name
			}
			call = append(call, word)
		}
		calls = append(calls, call)
	}
	return calls
}

// commandOf returns the command of a call as ACL rules name it.
func commandOf(call []any) string {
	name := fmt.Sprint(call[0])
	if name == "script" || name == "cluster" {
		return name + "|" + fmt.Sprint(call[1])
	}
	return name
}

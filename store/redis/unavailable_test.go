package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// reply is an error answer of Redis, as the client library returns it.
type reply string

func (r reply) Error() string { return string(r) }

// RedisError marks it as one.
func (reply) RedisError() {}

func TestUnavailableByText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"EXECABORT Transaction discarded because of previous errors.":                             "EXECABORT",
		"NOAUTH Authentication required.":                                                         "NOAUTH",
		"WRONGPASS invalid username-password pair or user is disabled.":                           "WRONGPASS",
		"NOPERM this user has no permissions to run the 'evalsha' command":                        "NOPERM",
		"UNKILLABLE Sorry the script already executed write commands":                             "UNKILLABLE",
		"NOSCRIPT No matching script. Please use EVAL.":                                           "NOSCRIPT",
		"CROSSSLOT Keys in request don't hash to the same slot":                                   "CROSSSLOT",
		"MOVED 3999 127.0.0.1:6381":                                                               "MOVED",
		"ASK 3999 127.0.0.1:6381":                                                                 "ASK",
		"CLUSTERDOWN The cluster is down":                                                         "CLUSTERDOWN",
		"LOADING Redis is loading the dataset in memory":                                          "LOADING",
		"OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:9.":  "OOM",
		"ERR Error running script (call to f_1f): @user_script:9: -OOM command not allowed":       "OOM",
		"MISCONF Redis is configured to save RDB snapshots":                                       "MISCONF",
		"READONLY You can't write against a read only replica. script: 1f, on @user_script:9.":    "READONLY",
		"NOREPLICAS Not enough good replicas to write.":                                           "NOREPLICAS",
		"MASTERDOWN Link with MASTER is down":                                                     "MASTERDOWN",
		"TRYAGAIN Multiple keys request during rehashing of slot":                                 "TRYAGAIN",
		"BUSY Redis is busy running a script.":                                                    "BUSY",
		"ERR max number of clients reached":                                                       "ERR max",
		"ERR unknown command 'EVALSHA', with args beginning with: ":                               "ERR unknown",
		"ERR The user executing the script can't run this command script: 1f, on @user_script:1.": "ERR The",
		"ERR DB index is out of range":                                                            "ERR DB",
		"ERR proxy error: no upstream host":                                                       "ERR proxy",
		"NEWCODE that nobody has heard of":                                                        "NEWCODE",
		"ERR Protocol error: unauthenticated multibulk length":                                    "ERR Protocol",
	} {
		err := fmt.Errorf("redis script admit on sluice:{s/0}:meta: %w", reply(text))
		require.True(t, Unavailable(err), text)
		require.Equal(t, want, Reason(err), text)
	}
	for _, text := range []string{
		"WRONGTYPE Operation against a key holding the wrong kind of value script: 1f, on @user_script:1.",
		":31: WRONGTYPE Operation against a key holding the wrong kind of value",
		"ERR user_script:3: attempt to index a nil value script: 1f, on @user_script:3.",
		"ERR Error running script (call to f_1f): @user_script:3: user_script:3: attempt to compare nil with number",
		"ERR Error compiling script (new function): user_script:1: '=' expected near 'is'",
		"ERR wrong number of arguments for 'hset' command",
		"ERR syntax error",
		"ERR value is not an integer or out of range script: 1f, on @user_script:3.",
		"ERR Number of keys can't be greater than number of args",
	} {
		require.False(t, Unavailable(fmt.Errorf("a call: %w", reply(text))), text)
	}
}

func TestUnavailableOfTheWay(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, goredis.ErrClosed, goredis.ErrPoolTimeout,
		&net.OpError{Op: "dial", Err: errors.New("connection refused")}, tls.AlertError(42), tls.RecordHeaderError{},
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, x509.UnknownAuthorityError{},
		errors.New("redis: all sentinels specified in configuration are unreachable"),
		errors.New("redis: cluster has no nodes"),
	} {
		require.True(t, Unavailable(fmt.Errorf("a call: %w", err)), "%v", err)
		require.Equal(t, "no answer", Reason(err))
	}
	for _, err := range []error{
		nil, goredis.Nil, goredis.TxFailedErr, errors.New("view of sale has 3 values, not 17"), ErrNotDurable,
	} {
		require.False(t, Unavailable(err), "%v", err)
	}
}

package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// Unavailable reports whether an error is Redis' or the way's to it: it did not answer in time, or it refused by its
// state, authority, memory, script engine, transactions or cluster. Repeating the call later may succeed, and the first
// call may have had its effect.
//
// Of Redis' own answers all count but those that say that a command, a script or a value of ours is wrong.
func Unavailable(err error) bool {
	if err == nil || errors.Is(err, goredis.Nil) || errors.Is(err, goredis.TxFailedErr) {
		return false
	}
	var answer goredis.Error
	if errors.As(err, &answer) {
		return !ourFault(answer.Error())
	}
	return unreached(err)
}

// noAnswer is the reason where Redis said nothing.
const noAnswer = "no answer"

// Reason returns in one or two words why Redis did not serve a call for which Unavailable holds:
// the code of its answer, such as OOM, or "no answer".
func Reason(err error) string {
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return noAnswer
	}
	text := answer.Error()
	if inner := nestedCode(text); inner != "" {
		return inner
	}
	code, rest, _ := strings.Cut(text, " ")
	if second, _, _ := strings.Cut(rest, " "); code == "ERR" {
		return "ERR " + second
	}
	return code
}

// nested finds the answer of a command within the text about the script that called it.
var nested = regexp.MustCompile(`(?:^|[ :(])-?(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|CLUSTERDOWN|MASTERDOWN|` +
	`TRYAGAIN|NOPERM|BUSY|WRONGTYPE) `)

func nestedCode(text string) string {
	if !strings.HasPrefix(text, "ERR ") {
		return ""
	}
	if found := nested.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}

// ourFault judges an answer of Redis by its text. "ERR" stands before what is wrong with a call, and before some of the
// server's own states: what is wrong with a call is named here.
func ourFault(text string) bool {
	if inner := nestedCode(text); inner != "" {
		return inner == "WRONGTYPE"
	}
	if strings.HasPrefix(text, ":") { // a line of a script, and what is wrong there: so says the built-in Redis
		return true
	}
	code, rest, _ := strings.Cut(text, " ")
	if code != "ERR" {
		return code == "WRONGTYPE"
	}
	// Where in a script it happened says nothing about why.
	rest, _, _ = strings.Cut(strings.ToLower(rest), " script: ")
	if strings.Contains(rest, "db index") {
		return false
	}
	for _, wrong := range []string{
		"syntax error", "wrong number of arg", "wrong kind of value", "not an integer", "not a valid", "not a float",
		"out of range", "overflow", "no such key", "invalid stream id", "target stream", "number of keys",
		"invalid expire", "negative", "exceeds maximum", "multi calls", "without multi",
		"user_script:", "running script", "compiling script", "lua redis lib", "nonexistent global",
	} {
		if strings.Contains(rest, wrong) {
			return true
		}
	}
	return false
}

// unreached judges an error that is no answer of Redis.
func unreached(err error) bool {
	for _, known := range []error{
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
		goredis.ErrClosed, goredis.ErrPoolTimeout, goredis.ErrPoolExhausted,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	var network net.Error
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &network) || errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &certificate) ||
		errors.As(err, &unknown) {
		return true
	}
	return fromClient(err)
}

// fromClient knows the errors of the client library that carry no type: no master, no node, no connection.
func fromClient(err error) bool {
	text := err.Error()
	for _, said := range []string{
		"redis: cluster has no nodes", "redis: all sentinels", "redis: no sentinels", "redis: connection ",
		"redis: timed out",
		"redis: invalid reply",
	} {
		if strings.Contains(text, said) {
			return true
		}
	}
	return false
}

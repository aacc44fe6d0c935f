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

// Unavailable reports whether an error is a fault of Redis or of the connection. Then Redis did not answer in time, or
// refused because of its state, rights, memory, script engine, transactions or cluster. Repeating the call later may
// succeed, and the first call may have had its effect. Only answers that a command, a script or a value of ours is
// wrong do not count.
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

// noAnswer is the reason when Redis did not answer.
const noAnswer = "no answer"

// Reason returns in one or two words why Redis was Unavailable. It is the code of its answer, such as OOM, or "no
// answer".
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

// nested finds a command's error in the text of the error of the script that called it.
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

// ourFault reports whether an answer of Redis says that a call of ours is wrong. "ERR" also precedes some states of the
// server, so the wrong calls are listed here.
func ourFault(text string) bool {
	if inner := nestedCode(text); inner != "" {
		return inner == "WRONGTYPE"
	}
	if strings.HasPrefix(text, ":") { // the embedded Redis begins script errors with the line
		return true
	}
	code, rest, _ := strings.Cut(text, " ")
	if code != "ERR" {
		return code == "WRONGTYPE"
	}
	// The place in a script is not part of the reason.
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

// unreached reports whether an error that is no answer of Redis means that Redis was not reached.
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

// fromClient reports whether err is one of the client library's errors without a type: no master, no node, no
// connection.
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

package channel

import (
	"errors"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"sluice/notify"
)

const codeClosing = 421 // "service not available, closing transmission channel"

// replyCode returns the server's reply code, 0 if it gave none.
func replyCode(err error) int {
	var sent *gomail.SendError
	var reply *textproto.Error
	switch {
	case errors.As(err, &sent):
		return sent.ErrorCode()
	case errors.As(err, &reply):
		return reply.Code
	}
	return 0
}

// loginResult classifies an error of connecting or logging in, which concerns every mail.
func loginResult(err error) notify.Result {
	if code := replyCode(err); code != 0 {
		return notify.Unreachable("smtp: the server refused the session with " + strconv.Itoa(code))
	}
	return notify.Unreachable("smtp: " + networkErrorText(err))
}

// sendResult classifies the error of one mail.
func sendResult(err error) notify.Result {
	code := replyCode(err)
	switch {
	case code == 0 || code == codeClosing:
		return notify.Unreachable("smtp: the connection broke before the mail was taken")
	case code >= 500 && ofChannel(err, code):
		return notify.Unreachable("smtp: the sender was refused with " + strconv.Itoa(code))
	case code >= 500:
		return notify.Permanent("smtp: refused with " + strconv.Itoa(code))
	}
	return notify.Retry("smtp: put off with " + strconv.Itoa(code))
}

// Replies that ask for a login, and the one for senders and hosts that a server does not want.
const (
	codeLogInFirst   = 530
	codeWeakLogin    = 534
	codeWrongLogin   = 535
	codeLoginNeedTLS = 538
	codeNotFromYou   = 554
)

// ofChannel reports whether a refusal would meet every mail. That is so when it answers the sender's address or asks
// for a login. Many servers refuse a sender only when they hear the recipient, with 554 or a code of policy (X.7.X).
func ofChannel(err error, code int) bool {
	var sent *gomail.SendError
	if !errors.As(err, &sent) {
		return false
	}
	switch {
	case sent.Reason == gomail.ErrSMTPMailFrom:
		return true
	case slices.Contains([]int{codeLogInFirst, codeWeakLogin, codeWrongLogin, codeLoginNeedTLS}, code):
		return true
	}
	policy := strings.HasPrefix(sent.EnhancedStatusCode(), "5.7.")
	return sent.Reason == gomail.ErrSMTPRcptTo && (policy || code == codeNotFromYou)
}

package channel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"sluice/notify"
)

// The values of EmailConfig.TLS.
const (
	TLSStart = "starttls" // begin without TLS and refuse a server that does not switch to it; port 587
	TLSWhole = "tls"      // TLS from the first byte; port 465
	TLSNone  = "none"     // no TLS: only for a server on the same host
)

// EmailConfig configures the channel "email".
type EmailConfig struct {
	SenderConfig `koanf:",squash"`
	// Addr is the SMTP server, host:port. Required when enabled. Alerts by e-mail use it even if the channel is not
	// enabled.
	Addr string `koanf:"addr"`
	// TLS is starttls, tls or none. Defaults to starttls.
	TLS string `koanf:"tls"`
	// CAFile holds PEM certificates to trust instead of the system's.
	CAFile string `koanf:"ca_file"`
	// Username and Password log in by the strongest way the server offers; empty: no login. They need TLS.
	Username string `koanf:"username"`
	Password string `koanf:"password"`
	// From is the sender, as in Shop <no-reply@shop.example>.
	From string `koanf:"from"`
	// HELO is the name that Sluice gives to the server. Defaults to this host's.
	HELO string `koanf:"helo"`
}

// DefaultEmailConfig returns the documented defaults.
func DefaultEmailConfig() EmailConfig {
	return EmailConfig{SenderConfig: DefaultSenderConfig(), TLS: TLSStart}
}

// Mails reports whether a mail server is configured.
func (c EmailConfig) Mails() bool { return c.Addr != "" }

// check returns every bad value, named by its key; batch is notify.timeout.
func (c EmailConfig) check(batch time.Duration) error {
	if !c.Enabled && !c.Mails() {
		return nil
	}
	return errors.Join(c.SenderConfig.check("email", batch), c.checkServer())
}

func (c EmailConfig) checkServer() error {
	var errs []error
	if host, port, err := net.SplitHostPort(c.Addr); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("notify.email.addr: %q is no host:port of an SMTP server", c.Addr))
	}
	if !slices.Contains([]string{TLSStart, TLSWhole, TLSNone}, c.TLS) {
		errs = append(errs, fmt.Errorf("notify.email.tls: %q is unknown, use starttls, tls or none", c.TLS))
	}
	if c.Username != "" && c.TLS == TLSNone {
		errs = append(errs, errors.New("notify.email.username: a password is not sent in the clear, "+
			"use notify.email.tls starttls or tls"))
	}
	if strings.ContainsFunc(c.HELO, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, fmt.Errorf("notify.email.helo: %q is no host name", c.HELO))
	}
	if _, err := mail.ParseAddress(c.From); err != nil {
		errs = append(errs, fmt.Errorf("notify.email.from: %q is no e-mail address", c.From))
	}
	return errors.Join(errs...)
}

// emailTransport sends each message as an e-mail, from a template.
type emailTransport struct {
	smtp      *Mailer
	templates *Templates
}

func (e *emailTransport) name() string { return "email" }

func (e *emailTransport) close() { e.smtp.Close() }

func (e *emailTransport) latest() bool { return true }

func (e *emailTransport) reaches(to notify.Recipient) string {
	if to.Email == "" {
		return "no e-mail address was given"
	}
	return ""
}

func (e *emailTransport) send(ctx context.Context, m notify.Message, to notify.Recipient) notify.Result {
	letter, err := e.templates.mail(m, to)
	if err != nil {
		return notify.Permanent("there is no e-mail template for this event")
	}
	return e.smtp.Send(ctx, Mail{ID: m.ID(), To: []string{to.Email}, Subject: letter.subject, Text: letter.text,
		HTML: letter.html})
}

// Mail is one e-mail. ID is the same at every try and becomes its Message-ID; HTML may be empty.
type Mail struct {
	ID                  string
	To                  []string
	Subject, Text, HTML string
}

// compose builds the message. Its errors quote addresses, so they must not be logged or stored.
func (m Mail) compose(from string, at time.Time) (*gomail.Msg, error) {
	sender, err := wireAddress(from)
	if err != nil {
		return nil, err
	}
	msg := gomail.NewMsg()
	if err := msg.From(sender); err != nil {
		return nil, err
	}
	for _, address := range m.To {
		to, err := wireAddress(address)
		if err != nil {
			return nil, err
		}
		if err := msg.AddTo(to); err != nil {
			return nil, err
		}
	}
	_, domain, _ := strings.Cut(msg.GetFrom()[0].Address, "@")
	msg.SetMessageIDWithValue(strings.Map(idRune, m.ID) + "@" + domain)
	msg.SetDateWithValue(at)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // prevents out-of-office replies
	msg.Subject(m.Subject)
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// wireAddress writes an address, with or without a name, in the form that every server understands. The domain is
// ASCII, and a local part that needs quotes has them.
func wireAddress(text string) (string, error) {
	parsed, err := mail.ParseAddress(text)
	if err != nil {
		if strings.ContainsFunc(text, apartInAddress) {
			return "", err
		}
		parsed = &mail.Address{Address: text} // some mailboxes have dots where RFC 5322 allows none
	}
	at := strings.LastIndexByte(parsed.Address, '@')
	if at < 1 {
		return "", errors.New("the address has no @")
	}
	domain, err := idna.Lookup.ToASCII(parsed.Address[at+1:])
	if err != nil {
		return "", err
	}
	parsed.Address = parsed.Address[:at+1] + domain
	return parsed.String(), nil
}

// apartInAddress reports whether a character has a meaning of its own in an address.
func apartInAddress(r rune) bool {
	return !unicode.IsPrint(r) || unicode.IsSpace(r) || strings.ContainsRune(`"(),:;<>[\]`, r)
}

// idRune replaces a character that a Message-ID must not contain by a dot.
func idRune(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.' {
		return r
	}
	return '.'
}

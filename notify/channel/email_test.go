package channel

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/providers"
	"sluice/notify"
)

const (
	annMail  = "ann.secret@example.com"
	annPhone = "+8613812345678"
)

func ann() notify.Recipient {
	return notify.Recipient{Email: annMail, Phone: annPhone, Locale: "zh-CN", SaleTitle: "Phone <X>",
		Facts: notify.Facts{Quantity: 2, PriceCents: 9900, Currency: "CNY",
			PayBy: time.Date(2026, 11, 11, 0, 15, 0, 0, time.UTC)}}
}

func confirmed() notify.Message {
	return notify.Message{OrderID: "0198c0de-7a1b-7c3d-8e9f-0123456789ab", Event: notify.EventConfirmed,
		SaleID: "phone", UserID: "u1", CreatedAt: time.UnixMilli(1_700_000_000_000), Attempt: 1}
}

func mailerFor(t *testing.T, cfg EmailConfig) *Mailer {
	t.Helper()
	require.NoError(t, cfg.check(20*time.Second))
	m, err := NewMailer(cfg, time.Now)
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func emailFor(t *testing.T, cfg EmailConfig) *emailTransport {
	t.Helper()
	w, err := NewTemplates("", English, "Asia/Shanghai")
	require.NoError(t, err)
	return &emailTransport{mailerFor(t, cfg), w}
}

// TestEmailArrives checks a mail as it arrives, for every value of TLS, with a login.
func TestEmailArrives(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*providers.MailServer){
		"starttls and login": func(s *providers.MailServer) { s.StartTLS, s.Login = true, "shop\x00pass-word" },
		"tls and login":      func(s *providers.MailServer) { s.Whole, s.Login = true, "shop\x00pass-word" },
		"in the clear":       func(*providers.MailServer) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := providers.NewMailServer(t, change)
			e := emailFor(t, mailConfig(server))
			for range 3 {
				require.Equal(t, notify.Delivered(), e.send(t.Context(), confirmed(), ann()))
			}
			require.Equal(t, 1, server.Sessions(), "one connection carries them all")
			raw := server.Received()[0]
			envelope, _, _ := strings.Cut(raw, "\r\n")
			require.Contains(t, envelope, "MAIL FROM:<shop@shop.example>")
			require.Contains(t, envelope, "RCPT TO:<"+annMail+">")
			_, content, _ := strings.Cut(raw, "RCPT TO:<"+annMail+">\n")
			checkMail(t, content)
		})
	}
}

func checkMail(t *testing.T, content string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(content))
	require.NoError(t, err)
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	require.NoError(t, err)
	require.Equal(t, "订单已确认：Phone <X>", subject)
	require.Equal(t, "<0198c0de-7a1b-7c3d-8e9f-0123456789ab.order.confirmed@shop.example>", m.Header.Get("Message-ID"))
	require.Equal(t, "auto-generated", m.Header.Get("Auto-Submitted"))
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []string{"请在 2026-11-11 08:15 CST 前完成支付", "Phone &lt;X&gt;"} {
		part, err := parts.NextPart()
		require.NoError(t, err)
		text, err := io.ReadAll(part)
		require.NoError(t, err)
		require.Contains(t, string(text), want)
		require.Contains(t, string(text), "198.00 CNY")
	}
}

func TestEmailResults(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		step, reply string
		want        notify.Result
	}{
		"unknown mailbox": {"rcpt", "550 5.1.1 no such user " + annMail, notify.Permanent("smtp: refused with 550")},
		"unwanted sender": {"mail", "554 5.7.1 not from you",
			notify.Unreachable("smtp: the sender was refused with 554")},
		"unwanted sender, said late": {"rcpt", "554 5.7.1 <shop@shop.example>: Sender address rejected",
			notify.Unreachable("smtp: the sender was refused with 554")},
		"relaying denied": {"rcpt", "550 5.7.1 unable to relay",
			notify.Unreachable("smtp: the sender was refused with 550")},
		"wants a login": {"rcpt", "530 5.7.0 log in first",
			notify.Unreachable("smtp: the sender was refused with 530")},
		"full mailbox":    {"rcpt", "552 5.2.2 over quota", notify.Permanent("smtp: refused with 552")},
		"greylisted":      {"rcpt", "450 4.2.0 later, " + annMail, notify.Retry("smtp: put off with 450")},
		"refused content": {"end", "554 5.7.1 spam for " + annMail, notify.Permanent("smtp: refused with 554")},
		"full disk":       {"end", "452 4.3.1 disk", notify.Retry("smtp: put off with 452")},
		"going down": {"mail", "421 bye",
			notify.Unreachable("smtp: the connection broke before the mail was taken")},
		"not now": {"connect", "421 too busy",
			notify.Unreachable("smtp: the server refused the session with 421")},
		"dies in the middle": {"data", "drop",
			notify.Unreachable("smtp: the connection broke before the mail was taken")},
		"dies after taking": {"rset", "drop", notify.Delivered()},
		"hangs": {"rcpt", "hang",
			notify.Unreachable("smtp: the connection broke before the mail was taken")},
		"hangs at once": {"connect", "hang", notify.Unreachable("smtp: no answer in time")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := providers.NewMailServer(t, func(*providers.MailServer) {})
			cfg := mailConfig(server)
			cfg.Timeout = 300 * time.Millisecond
			e := emailFor(t, cfg)
			server.Answer(func(step, _ string) string {
				if step == one.step {
					return one.reply
				}
				return ""
			})
			require.Equal(t, one.want, e.send(t.Context(), confirmed(), ann()))
			server.Answer(func(string, string) string { return "" })
			require.Equal(t, notify.Delivered(), e.send(t.Context(), confirmed(), ann()),
				"the next mail is not held by it")
		})
	}
}

// Domains go out in ASCII, and dots where a mailbox may have none go out in quotes.
func TestEmailAddressesOnTheWire(t *testing.T) {
	t.Parallel()
	server := providers.NewMailServer(t, func(*providers.MailServer) {})
	var hello sync.Map
	server.Answer(func(step, line string) string {
		if step == "ehlo" {
			hello.Store(line, true)
		}
		return ""
	})
	cfg := mailConfig(server)
	cfg.From, cfg.HELO = "Shop <shop@läden.example>", "mx.shop.example"
	e := emailFor(t, cfg)
	for address, wire := range map[string]string{"anna@bücher.example": "<anna@xn--bcher-kva.example>",
		"foo..bar@docomo.example": `<"foo..bar"@docomo.example>`, "x@例え.jp": "<x@xn--r8jz45g.jp>"} {
		to := ann()
		to.Email = address
		require.Equal(t, notify.Delivered(), e.send(t.Context(), confirmed(), to), address)
		mails := server.Received()
		require.Contains(t, mails[len(mails)-1], "MAIL FROM:<shop@xn--lden-loa.example>")
		require.Contains(t, mails[len(mails)-1], "RCPT TO:"+wire)
	}
	_, said := hello.Load("EHLO mx.shop.example")
	require.True(t, said)
	cfg.HELO = "two words"
	require.ErrorContains(t, cfg.check(20*time.Second), "notify.email.helo")
}

func TestEmailSurvivesADroppedIdleConnection(t *testing.T) {
	t.Parallel()
	server := providers.NewMailServer(t, func(*providers.MailServer) {})
	e := emailFor(t, mailConfig(server))
	require.Equal(t, notify.Delivered(), e.send(t.Context(), confirmed(), ann()))
	server.DropAll()
	require.Equal(t, notify.Delivered(), e.send(t.Context(), confirmed(), ann()))
	require.Equal(t, 2, server.Sessions())
	require.Len(t, server.Received(), 2)
}

func TestEmailEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"connect", "rcpt"} {
		server := providers.NewMailServer(t, func(*providers.MailServer) {})
		cfg := mailConfig(server)
		cfg.Timeout = time.Hour
		m, err := NewMailer(cfg, time.Now)
		require.NoError(t, err)
		t.Cleanup(m.Close)
		ctx, cancel := context.WithCancel(t.Context())
		server.Answer(func(at, _ string) string {
			if at == step {
				cancel()
				return "hang"
			}
			return ""
		})
		r := m.Send(ctx, Mail{ID: "a", To: []string{annMail}, Subject: "s", Text: "t"})
		require.True(t, r.ReceiverDown(), step)
	}
}

func TestEmailNeedsWhatItWasPromised(t *testing.T) {
	t.Parallel()
	wrong := providers.NewMailServer(t, func(s *providers.MailServer) {
		s.StartTLS, s.Login = true, "shop\x00pass-word"
	})
	cfg := mailConfig(wrong)
	cfg.Password = "another"
	require.Equal(t, notify.Unreachable("smtp: the server refused the session with 535"),
		emailFor(t, cfg).send(t.Context(), confirmed(), ann()))
	cfg = mailConfig(wrong)
	cfg.CAFile = ""
	require.Equal(t, notify.Unreachable("smtp: its certificate is not trusted"),
		emailFor(t, cfg).send(t.Context(), confirmed(), ann()))

	clear := providers.NewMailServer(t, func(*providers.MailServer) {})
	cfg = mailConfig(clear)
	cfg.TLS = TLSStart
	r := emailFor(t, cfg).send(t.Context(), confirmed(), ann())
	require.True(t, r.ReceiverDown(), "no mail goes in the clear unless the configuration says so")
	require.Empty(t, clear.Received())

	gone := providers.NewMailServer(t, func(*providers.MailServer) {})
	cfg = mailConfig(gone)
	gone.Stop()
	require.Equal(t, notify.Unreachable("smtp: connection refused"),
		emailFor(t, cfg).send(t.Context(), confirmed(), ann()))
	to := ann()
	to.Email = "not an address\r\nBcc: all@example.com"
	require.Equal(t, notify.Permanent("the e-mail address is not valid"),
		emailFor(t, mailConfig(clear)).send(t.Context(), confirmed(), to))
}

func TestEmailConfig(t *testing.T) {
	t.Parallel()
	cfg := DefaultEmailConfig()
	require.NoError(t, cfg.check(20*time.Second), "off")
	cfg.Enabled, cfg.TLS, cfg.Username = true, "maybe", "shop"
	err := cfg.check(time.Second)
	for _, key := range []string{"addr", "tls", "from", "timeout"} {
		require.ErrorContains(t, err, "notify.email."+key)
	}
	cfg.Enabled, cfg.Addr = false, "127.0.0.1:25"
	require.ErrorContains(t, cfg.check(20*time.Second), "notify.email.from",
		"a server that alerts go through is checked too")
	cfg.TLS = TLSNone
	require.ErrorContains(t, cfg.check(20*time.Second), "notify.email.username")
	cfg.Addr, cfg.CAFile = "127.0.0.1:25", "/nowhere/ca.pem"
	_, err = NewMailer(cfg, time.Now)
	require.ErrorContains(t, err, "notify.email.ca_file")
	require.Equal(t, "unreachable (<nil>)", networkErrorText(errors.New(annMail)), "texts of others are not quoted")
}

// mailConfig returns the configuration for a mail server.
func mailConfig(s *providers.MailServer) EmailConfig {
	cfg := DefaultEmailConfig()
	cfg.Enabled, cfg.Addr, cfg.CAFile, cfg.Timeout = true, s.Addr(), s.CAFile(), 2*time.Second
	cfg.From = "Shop <shop@shop.example>"
	switch {
	case s.Whole:
		cfg.TLS = TLSWhole
	case !s.StartTLS:
		cfg.TLS = TLSNone
	}
	if user, password, ok := strings.Cut(s.Login, "\x00"); ok {
		cfg.Username, cfg.Password = user, password
	}
	return cfg
}

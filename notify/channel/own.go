package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	text "text/template"
	"unicode/utf8"

	"sluice/internal/invalid"
	"sluice/notify"
)

const (
	maxSMSText  = 1000  // characters; providers split it into parts
	maxMailText = 16000 // bytes of text or HTML
	maxSubject  = 200   // characters
)

// ownBody is a message that a shop's system sends to somebody: a text, or a template with data.
type ownBody struct {
	To       string         `json:"to"`
	Subject  string         `json:"subject"` // e-mail with a text
	Text     string         `json:"text"`
	Template string         `json:"template"` // a name that sms.txt or email.txt of a locale defines
	Data     map[string]any `json:"data"`     // for the template
	Locale   string         `json:"locale"`   // of the template; empty: notify.locale
}

// ownMessage is a body that was checked, ready to be sent.
type ownMessage struct {
	to, subject, text, html string
	template                string
	data                    map[string]any
}

// ownTransport is a transport of messages that are not about orders.
type ownTransport interface {
	// own writes a message of a body. Its error names every field that breaks a rule and quotes none.
	own(body []byte) (ownMessage, error)
	sendOwn(ctx context.Context, id string, m ownMessage) notify.Result
}

// SendBody sends a message of a shop's system through the pool, the rate and the breaker of the channel. It returns
// when the message has its result, soon after ctx ends. id is the same at every try.
func (s *Sender) SendBody(ctx context.Context, id string, body []byte) notify.Result {
	t, can := s.transport.(ownTransport)
	if !can {
		return notify.Permanent("the channel sends news of orders only")
	}
	m, err := t.own(body)
	if err != nil { // a template may have been taken away since it was added
		return notify.Permanent("not valid any more: " + err.Error())
	}
	done := make(chan notify.Result, 1)
	s.waiting.Add(1)
	if err := s.pool.Invoke(sendJob{ctx: ctx, what: id,
		send:   func(ctx context.Context) notify.Result { return t.sendOwn(ctx, id, m) },
		report: func(r notify.Result) { done <- r }}); err != nil {
		s.waiting.Add(-1)
		return notify.Hold(0, "the channel is closing")
	}
	return <-done
}

// CheckBody returns which fields of a message of a shop's system break a rule, or nothing.
func (s *Sender) CheckBody(body []byte) invalid.Error {
	t, can := s.transport.(ownTransport)
	if !can {
		return invalid.Error{{Detail: "cannot be sent by this channel"}}
	}
	_, err := t.own(body)
	bad, _ := errors.AsType[invalid.Error](err)
	return bad
}

// Own returns the channels that send messages of a shop's systems, by name.
func (s *Set) Own() map[string]*Sender {
	own := map[string]*Sender{}
	for _, sender := range s.senders {
		if _, can := sender.transport.(ownTransport); can {
			own[sender.Name()] = sender
		}
	}
	return own
}

// ownRules gathers which fields of a body break a rule.
type ownRules struct{ bad invalid.Error }

func (r *ownRules) check(ok bool, field, detail string) {
	if !ok {
		r.bad = append(r.bad, invalid.Field{Field: field, Detail: detail})
	}
}

func (r *ownRules) err() error {
	if len(r.bad) > 0 {
		return r.bad
	}
	return nil
}

// readOwn reads a body and checks what both channels have in common.
func readOwn(raw []byte) (b ownBody, r *ownRules) {
	r = &ownRules{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		r.check(false, "", "must be an object with to, and text or template, of strings; data is an object, "+
			"subject is of e-mail")
		return b, r
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		r.check(false, "", "must be one object")
	}
	r.check((b.Text == "") != (b.Template == ""), "text", "or template must be given, and not both")
	r.check(b.Template == "" || invalid.Name(b.Template, 64, "-_.") && !strings.HasPrefix(b.Template, "order."),
		"template", "must be a name that notify.templates defines, and not an event of orders")
	r.check(b.Template != "" || b.Data == nil, "data", "must not be given without template")
	r.check(b.Locale == "" || invalid.Name(b.Locale, 35, "-"), "locale", "must be a language tag such as zh-CN")
	r.check(textual(b.Text), "text", "must have no control characters but line ends and tabs")
	return b, r
}

// textual reports whether a text has no control characters but line ends and tabs.
func textual(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f
	}) < 0
}

// defined returns the nearest locale in which has is true, or false.
func (t *Templates) defined(want string, has func(locale) bool) (locale, bool) {
	for _, l := range []locale{t.localeFor(want), t.locales[t.fallback]} {
		if has(l) {
			return l, true
		}
	}
	return locale{}, false
}

// ownText writes a text of a template that has a name. An error says why not, without quoting data.
func (t *Templates) ownText(b ownBody) (string, error) {
	l, found := t.defined(b.Locale, func(l locale) bool { return l.sms.Lookup(b.Template) != nil })
	if !found {
		return "", errNoTemplate
	}
	return runOwn(l.sms, b.Template, b.Data)
}

// ownMail writes an e-mail. Its HTML part is optional.
func (t *Templates) ownMail(b ownBody) (m renderedMail, err error) {
	l, found := t.defined(b.Locale, func(l locale) bool {
		return l.mail.Lookup(b.Template) != nil && l.mail.Lookup(b.Template+".subject") != nil
	})
	if !found {
		return m, errNoTemplate
	}
	var errs [3]error
	m.subject, errs[0] = runOwn(l.mail, b.Template+".subject", b.Data)
	m.subject = strings.Join(strings.Fields(m.subject), " ")
	m.text, errs[1] = runOwn(l.mail, b.Template, b.Data)
	if l.html.Lookup(b.Template) != nil {
		m.html, errs[2] = runOwn(l.html, b.Template, b.Data)
	}
	return m, errors.Join(errs[:]...)
}

var (
	errNoTemplate = errors.New("is not defined in notify.templates")
	errData       = errors.New("does not have what the template needs")
)

func runOwn(template executor, name string, data map[string]any) (string, error) {
	if data == nil {
		data = map[string]any{}
	}
	var out strings.Builder
	if err := template.ExecuteTemplate(&out, name, data); err != nil {
		return "", errData // its own text may quote data
	}
	return strings.TrimSpace(out.String()), nil
}

// executor is a text or an HTML template.
type executor interface {
	ExecuteTemplate(w io.Writer, name string, data any) error
}

var _ executor = (*text.Template)(nil)

// template names the field that is at fault when a template could not be run.
func (r *ownRules) template(err error) {
	switch {
	case errors.Is(err, errNoTemplate):
		r.check(false, "template", errNoTemplate.Error())
	case err != nil:
		r.check(false, "data", errData.Error())
	}
}

// approvedProvider is a provider that sends only texts that it knows.
type approvedProvider interface {
	approves(template string) bool
}

// own implements ownTransport.
func (s *smsTransport) own(body []byte) (ownMessage, error) {
	b, r := readOwn(body)
	to, ok := s.plan.E164(b.To)
	r.check(ok || len(r.bad) > 0, "to", "must be a mobile number as + and digits, or as in notify.sms.default_region")
	r.check(b.Subject == "", "subject", "must not be given: only e-mail has one")
	if p, picky := s.provider.(approvedProvider); picky {
		r.check(p.approves(b.Template), "template", "must be one of notify.sms.aliyun.own_templates: no other is sent")
	}
	if len(r.bad) == 0 && b.Template != "" {
		var err error
		b.Text, err = s.templates.ownText(b)
		r.template(err)
	}
	r.check(utf8.RuneCountInString(b.Text) <= maxSMSText, "text", "must have at most 1000 characters")
	return ownMessage{to: to, text: b.Text, template: b.Template, data: b.Data}, r.err()
}

// sendOwn implements ownTransport.
func (s *smsTransport) sendOwn(ctx context.Context, id string, m ownMessage) notify.Result {
	return s.provider.Send(ctx, SMS{ID: id, To: m.to, Text: m.text, Template: m.template, Data: m.data})
}

// own implements ownTransport.
func (e *emailTransport) own(body []byte) (ownMessage, error) {
	b, r := readOwn(body)
	_, err := wireAddress(b.To)
	r.check(err == nil && len(b.To) <= 254 && !strings.ContainsAny(b.To, "<> \r\n"), "to",
		"must be one e-mail address without a name")
	r.check(b.Template != "" || invalid.PlainText(b.Subject, maxSubject), "subject",
		"must be 1 to 200 characters without control characters")
	r.check(b.Template == "" || b.Subject == "", "subject", "must not be given with template, which has its own")
	m := ownMessage{to: b.To, subject: b.Subject, text: b.Text}
	if len(r.bad) == 0 && b.Template != "" {
		mail, err := e.templates.ownMail(b)
		r.template(err)
		m.subject, m.text, m.html = mail.subject, mail.text, mail.html
	}
	r.check(max(len(m.text), len(m.html)) <= maxMailText, "text", "must have at most 16000 bytes")
	return m, r.err()
}

// sendOwn implements ownTransport.
func (e *emailTransport) sendOwn(ctx context.Context, id string, m ownMessage) notify.Result {
	return e.smtp.Send(ctx, Mail{ID: id, To: []string{m.to}, Subject: m.subject, Text: m.text, HTML: m.html})
}

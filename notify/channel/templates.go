package channel

import (
	"embed"
	"errors"
	"fmt"
	html "html/template"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	text "text/template"
	"time"

	"sluice/internal/money"
	"sluice/notify"
)

//go:embed templates
var shippedTemplates embed.FS

// The languages that are shipped. The operator's folder may add more.
const (
	English = "en"
	Chinese = "zh-CN"
)

// Templates writes messages to shoppers, in their languages. Safe for concurrent use.
//
// A locale is a folder with the files email.txt, email.html and sms.txt. Each defines a template for every event by its
// name; email.txt also one with .subject added. They use the fields of Facts.
type Templates struct {
	locales  map[string]locale
	fallback string
	zone     *time.Location
}

type locale struct {
	mail *text.Template
	html *html.Template
	sms  *text.Template
}

// Facts are the fields that templates may use.
type Facts struct {
	Event    string
	Order    string // the whole id
	Short    string // its last eight characters
	Sale     string
	Quantity int
	Total    string // with its currency, such as 99.00 CNY
	Status   string // as it is now: confirmed, paid, expired, cancelled or failed
	Reason   string // of a failed order: sold_out, limit_reached, …
	// Refund says why money must go back: late, again (paid before), ended (cancelled or failed) or amount (a wrong
	// one).
	Refund string
	PayBy  string // empty: no deadline
}

// NewTemplates reads the shipped templates and those of folder over them, file by file. An empty folder means the
// shipped ones. It tries every event in every locale, so that a mistake fails the start and not a sale.
func NewTemplates(folder, fallback, zone string) (*Templates, error) {
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("notify.time_zone: %w", err)
	}
	t := &Templates{locales: map[string]locale{}, fallback: fallback, zone: location}
	shipped, err := fs.Sub(shippedTemplates, "templates")
	if err != nil {
		return nil, err
	}
	own := fs.FS(embed.FS{})
	if folder != "" {
		own = os.DirFS(folder)
	}
	names, err := localesIn(own, folder)
	if err != nil {
		return nil, err
	}
	for _, name := range append(names, English, Chinese) {
		if t.locales[name], err = readLocale(own, shipped, name); err != nil {
			return nil, fmt.Errorf("notify.templates: %w", err)
		}
	}
	if _, ok := t.locales[fallback]; !ok {
		return nil, fmt.Errorf("notify.locale: there are no templates for %q", fallback)
	}
	return t, t.tryAll()
}

// localesIn names the locales of an operator's folder.
func localesIn(own fs.FS, folder string) ([]string, error) {
	if folder == "" {
		return nil, nil
	}
	entries, err := fs.ReadDir(own, ".")
	if err != nil {
		return nil, fmt.Errorf("notify.templates: read the folder %s: %w", folder, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// readLocale reads a locale's files, each from own or, where it is missing there, from shipped.
func readLocale(own, shipped fs.FS, name string) (locale, error) {
	var files [3]string
	for i, file := range []string{"email.txt", "email.html", "sms.txt"} {
		raw, err := fs.ReadFile(own, name+"/"+file)
		if errors.Is(err, fs.ErrNotExist) {
			raw, err = fs.ReadFile(shipped, name+"/"+file)
		}
		if err != nil {
			return locale{}, err
		}
		files[i] = string(raw)
	}
	var l locale
	var errs [3]error
	l.mail, errs[0] = text.New(name + "/email.txt").Option("missingkey=error").Parse(files[0])
	l.html, errs[1] = html.New(name + "/email.html").Option("missingkey=error").Parse(files[1])
	l.sms, errs[2] = text.New(name + "/sms.txt").Option("missingkey=error").Parse(files[2])
	return l, errors.Join(errs[:]...)
}

// tryAll executes every template with few and with many fields set.
func (t *Templates) tryAll() error {
	var errs []error
	for name := range t.locales {
		for _, event := range notify.Events() {
			for _, r := range []notify.Recipient{{Locale: name}, {Locale: name, Facts: notify.Facts{
				Reason: "sold_out", PayBy: time.Unix(0, 0), Status: "confirmed", Refund: "amount"}}} {
				_, err := t.mail(notify.Message{OrderID: "0123456789", Event: event}, r)
				_, err2 := t.text(notify.Message{OrderID: "0123456789", Event: event}, r)
				errs = append(errs, err, err2)
			}
		}
	}
	return errors.Join(errs...)
}

// renderedMail is an e-mail without its envelope.
type renderedMail struct{ subject, text, html string }

// mail writes an e-mail. It fails on an event without templates.
func (t *Templates) mail(m notify.Message, to notify.Recipient) (renderedMail, error) {
	l, facts := t.localeFor(to.Locale), t.facts(m, to)
	var out renderedMail
	var errs [3]error
	out.subject, errs[0] = execute(l.mail, m.Event+".subject", facts)
	out.text, errs[1] = execute(l.mail, m.Event, facts)
	out.html, errs[2] = execute(l.html, m.Event, facts)
	out.subject = strings.Join(strings.Fields(out.subject), " ") // one line, even if a title has several
	return out, errors.Join(errs[:]...)
}

// text writes an SMS. It fails on an event without a template.
func (t *Templates) text(m notify.Message, to notify.Recipient) (string, error) {
	out, err := execute(t.localeFor(to.Locale).sms, m.Event, t.facts(m, to))
	return strings.TrimSpace(out), err
}

// execute runs the template of that name.
func execute(template interface {
	ExecuteTemplate(io.Writer, string, any) error
}, name string, facts Facts) (string, error) {
	var out strings.Builder
	if err := template.ExecuteTemplate(&out, name, facts); err != nil {
		return "", fmt.Errorf("notify.templates: %w", err)
	}
	return out.String(), nil
}

// localeFor finds the nearest locale: itself, then one of the same language, then the configured one.
func (t *Templates) localeFor(want string) locale {
	if l, ok := t.locales[want]; ok {
		return l
	}
	language, _, _ := strings.Cut(want, "-")
	var near []string
	for name := range t.locales {
		if have, _, _ := strings.Cut(name, "-"); language != "" && strings.EqualFold(have, language) {
			near = append(near, name)
		}
	}
	if len(near) > 0 {
		return t.locales[slices.Min(near)]
	}
	return t.locales[t.fallback]
}

// facts returns the fields for the templates of a message.
func (t *Templates) facts(m notify.Message, to notify.Recipient) Facts {
	total := to.PriceCents * int64(to.Quantity)
	f := Facts{
		Event: m.Event, Order: m.OrderID, Short: m.OrderID[max(0, len(m.OrderID)-8):], Sale: to.SaleTitle,
		Quantity: to.Quantity, Total: money.Format(total, to.Currency),
		Status: to.Status, Reason: to.Reason, Refund: to.Refund,
	}
	if !to.PayBy.IsZero() {
		f.PayBy = to.PayBy.In(t.zone).Format("2006-01-02 15:04 MST")
	}
	return f
}

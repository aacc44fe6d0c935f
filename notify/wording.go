package notify

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
)

//go:embed templates
var shippedTemplates embed.FS

// The events of an order that are told.
const (
	EventConfirmed = "order.confirmed"
	EventPaid      = "order.paid"
	EventExpired   = "order.expired"
	EventCancelled = "order.cancelled"
	EventFailed    = "order.failed"
	// A payment came for an order that holds no unit, or was paid already, or of another amount than the order costs. Told
	// once for each order, of the first such payment.
	EventRefundRequired = "order.refund_required"
)

// Events are all of them.
func Events() []string {
	return []string{EventConfirmed, EventPaid, EventExpired, EventCancelled, EventFailed, EventRefundRequired}
}

// The languages that are shipped. A folder of the operator's may hold more.
const (
	English = "en"
	Chinese = "zh-CN"
)

// Wording is what shoppers are told, in their languages. Safe for concurrent use.
//
// A locale is a folder with the files email.txt, email.html and sms.txt. Each defines a template for every event by its name;
// email.txt also one with .subject added. They see the fields of Facts.
type Wording struct {
	locales  map[string]locale
	fallback string
	zone     *time.Location
}

type locale struct {
	mail *text.Template
	html *html.Template
	sms  *text.Template
}

// Facts are what templates may say.
type Facts struct {
	Event    string
	Order    string // the whole id
	Short    string // its last eight characters
	Sale     string
	Quantity int
	Total    string // with its currency, such as 99.00 CNY
	Status   string // as it is now: confirmed, paid, expired, cancelled or failed
	Reason   string // of a failed order: sold_out, limit_reached, …
	Refund   string // why money must go back: late, again (paid before), ended (cancelled or failed), amount (another than the order costs)
	PayBy    string // empty: no deadline
}

// NewWording reads the shipped templates and those of folder over them, file by file; an empty folder means the shipped ones.
// Every event is tried out in every locale, so that a mistake shows at the start and not at the first sale.
func NewWording(folder, fallback, zone string) (*Wording, error) {
	place, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("notify.time_zone: %w", err)
	}
	w := &Wording{locales: map[string]locale{}, fallback: fallback, zone: place}
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
		if w.locales[name], err = readLocale(own, shipped, name); err != nil {
			return nil, fmt.Errorf("notify.templates: %w", err)
		}
	}
	if _, ok := w.locales[fallback]; !ok {
		return nil, fmt.Errorf("notify.locale: there are no templates for %q", fallback)
	}
	return w, w.tryAll()
}

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

func (w *Wording) tryAll() error {
	var errs []error
	for name := range w.locales {
		for _, event := range Events() {
			for _, r := range []Recipient{{Locale: name}, {Locale: name, Reason: "sold_out", PayBy: time.Unix(0, 0), Status: "confirmed", Refund: "amount"}} {
				_, err := w.mail(Message{OrderID: "0123456789", Event: event}, r)
				_, err2 := w.text(Message{OrderID: "0123456789", Event: event}, r)
				errs = append(errs, err, err2)
			}
		}
	}
	return errors.Join(errs...)
}

// letter is an e-mail without its envelope.
type letter struct{ subject, text, html string }

// mail words an e-mail. It fails on an event without templates.
func (w *Wording) mail(m Message, to Recipient) (letter, error) {
	l, facts := w.of(to.Locale), w.facts(m, to)
	var out letter
	var errs [3]error
	out.subject, errs[0] = worded(l.mail, m.Event+".subject", facts)
	out.text, errs[1] = worded(l.mail, m.Event, facts)
	out.html, errs[2] = worded(l.html, m.Event, facts)
	out.subject = strings.Join(strings.Fields(out.subject), " ") // one line, whatever a title holds
	return out, errors.Join(errs[:]...)
}

// text words an SMS. It fails on an event without a template.
func (w *Wording) text(m Message, to Recipient) (string, error) {
	said, err := worded(w.of(to.Locale).sms, m.Event, w.facts(m, to))
	return strings.TrimSpace(said), err
}

func worded(t interface {
	ExecuteTemplate(io.Writer, string, any) error
}, name string, facts Facts) (string, error) {
	var out strings.Builder
	if err := t.ExecuteTemplate(&out, name, facts); err != nil {
		return "", fmt.Errorf("notify.templates: %w", err)
	}
	return out.String(), nil
}

// of finds the nearest locale: itself, then one of the same language, then the configured one.
func (w *Wording) of(want string) locale {
	if l, ok := w.locales[want]; ok {
		return l
	}
	language, _, _ := strings.Cut(want, "-")
	var near []string
	for name := range w.locales {
		if have, _, _ := strings.Cut(name, "-"); language != "" && strings.EqualFold(have, language) {
			near = append(near, name)
		}
	}
	if len(near) > 0 {
		return w.locales[slices.Min(near)]
	}
	return w.locales[w.fallback]
}

func (w *Wording) facts(m Message, to Recipient) Facts {
	total := to.PriceCents * int64(to.Quantity)
	f := Facts{Event: m.Event, Order: m.OrderID, Short: m.OrderID[max(0, len(m.OrderID)-8):], Sale: to.SaleTitle, Quantity: to.Quantity,
		Total: fmt.Sprintf("%d.%02d %s", total/100, total%100, to.Currency), Status: to.Status, Reason: to.Reason, Refund: to.Refund}
	if !to.PayBy.IsZero() {
		f.PayBy = to.PayBy.In(w.zone).Format("2006-01-02 15:04 MST")
	}
	return f
}

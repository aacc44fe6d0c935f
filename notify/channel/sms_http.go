package channel

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"text/template"
	"time"

	"sluice/notify"
	"sluice/notify/webhook"
)

// SMSHTTPConfig configures any provider with an HTTP API.
type SMSHTTPConfig struct {
	// URL and Body are templates over ID, To, Text and Facts. The function json makes a value safe inside a JSON text,
	// with its quotes: {"to":{{json .To}}}. The function query does so for a query or form: to={{query .To}}.
	URL  string `koanf:"url" secret:"true"` // some carry a token
	Body string `koanf:"body" secret:"true"`
	// Method defaults to POST.
	Method string `koanf:"method"`
	// Headers are sent as they are, an Authorization for example. Never shown.
	Headers map[string]string `koanf:"headers" secret:"true"`
}

// smsHTTP sends the request that its templates produce. The status decides: 2xx is delivered.
type smsHTTP struct {
	cfg       SMSHTTPConfig
	url, body *template.Template
	client    *http.Client
	now       func() time.Time
}

func newSMSHTTP(cfg SMSHTTPConfig, client *http.Client, now func() time.Time) (*smsHTTP, error) {
	p := &smsHTTP{cfg: cfg, client: client, now: now}
	safe := template.FuncMap{"json": jsonText, "query": url.QueryEscape}
	var errs [3]error
	p.url, errs[0] = template.New("notify.sms.http.url").Funcs(safe).Parse(cfg.URL)
	p.body, errs[1] = template.New("notify.sms.http.body").Funcs(safe).Parse(cfg.Body)
	if errors.Join(errs[:]...) != nil {
		return nil, errors.New("notify.sms.http: url and body must be templates such as " +
			"{\"to\":{{json .To}},\"text\":{{json .Text}}}")
	}
	req, err := p.request(context.Background(), SMS{ID: "id", To: "+10000000000", Text: "text"})
	if err != nil || webhook.CheckURL("", req.URL.String()) != nil {
		return nil, errors.New("notify.sms.http: url, method, headers and body make no request; " +
			"fields are .ID .To .Text .Facts")
	}
	return p, nil
}

func jsonText(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// request fills in the templates.
func (p *smsHTTP) request(ctx context.Context, s SMS) (*http.Request, error) {
	var target, body strings.Builder
	if err := errors.Join(p.url.Execute(&target, s), p.body.Execute(&body, s)); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, p.cfg.Method, target.String(), strings.NewReader(body.String()))
	if err != nil {
		return nil, err
	}
	for name, value := range p.cfg.Headers {
		req.Header.Set(name, value)
	}
	return req, nil
}

// Send implements SMSProvider.
func (p *smsHTTP) Send(ctx context.Context, s SMS) notify.Result {
	req, err := p.request(ctx, s)
	if err != nil {
		return notify.Permanent("the request could not be written for this message")
	}
	resp, _, err := exchange(p.client, req, explainTime)
	if err != nil {
		return notify.Unreachable(networkErrorText(err))
	}
	return classifyKey(resp, classify(resp, p.now()))
}

// classifyKey turns a refused API key into a fault of the receiver. It would fail every message, and none should become
// dead because of it.
func classifyKey(resp *http.Response, r notify.Result) notify.Result {
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return notify.Unreachable("the provider refused the key")
	}
	return r
}

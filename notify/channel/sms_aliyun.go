package channel

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/notify"
	"sluice/notify/webhook"
)

// AliyunConfig names an account at Alibaba Cloud's Short Message Service, which sends only texts it has approved.
type AliyunConfig struct {
	// Endpoint defaults to https://dysmsapi.aliyuncs.com.
	Endpoint string `koanf:"endpoint"`
	// AccessKeyID and AccessKeySecret sign the requests.
	AccessKeyID     string `koanf:"access_key_id"`
	AccessKeySecret string `koanf:"access_key_secret"`
	// SignName is the approved signature of the shop.
	SignName string `koanf:"sign_name"`
	// Templates are the codes of approved templates by event without its "order.": confirmed, paid, expired, cancelled,
	// failed, refund_required. They may use the variables order, sale, quantity, total and pay_by. Other events are not
	// sent.
	Templates map[string]string `koanf:"templates"`
	// OwnTemplates are the codes of approved templates by the name that a shop's system gives. Their variables are its
	// data. Other messages of such systems are refused.
	OwnTemplates map[string]string `koanf:"own_templates"`
}

type aliyun struct {
	cfg    AliyunConfig
	client *http.Client
	now    func() time.Time
}

// variableLength bounds the characters of a template's variable.
const variableLength = 35

func newAliyun(cfg AliyunConfig, client *http.Client, now func() time.Time) (*aliyun, error) {
	if cfg.AccessKeyID == "" || cfg.AccessKeySecret == "" || cfg.SignName == "" || len(cfg.Templates) == 0 {
		return nil, errors.New(
			"notify.sms.aliyun: access_key_id, access_key_secret, sign_name and templates are required")
	}
	for name := range cfg.Templates {
		if !slices.Contains(notify.Events(), "order."+name) {
			return nil, fmt.Errorf("notify.sms.aliyun.templates: there is no event %q, "+
				"use confirmed, paid, expired, cancelled, failed or refund_required", name)
		}
	}
	return &aliyun{cfg, client, now}, webhook.CheckURL("notify.sms.aliyun.endpoint", cfg.Endpoint)
}

func (p *aliyun) approves(template string) bool { return p.cfg.OwnTemplates[template] != "" }

// Send implements SMSProvider. SendSms is not idempotent: after a lost answer, the retry may send the text twice.
func (p *aliyun) Send(ctx context.Context, s SMS) notify.Result {
	template, values := p.cfg.Templates[strings.TrimPrefix(s.Facts.Event, "order.")], map[string]any{
		"order": shorten(s.Facts.Short), "sale": shorten(s.Facts.Sale), "quantity": strconv.Itoa(s.Facts.Quantity),
		"total": shorten(s.Facts.Total), "pay_by": shorten(s.Facts.PayBy)}
	if s.Template != "" {
		template, values = p.cfg.OwnTemplates[s.Template], s.Data
	}
	if template == "" && s.Facts.Event == "" {
		return notify.Permanent("aliyun sends approved templates only")
	}
	if template == "" {
		return notify.Skipped("no aliyun template is configured for this event")
	}
	variables, err := json.Marshal(values)
	if err != nil {
		return notify.Permanent("the template's variables could not be written")
	}
	query := url.Values{"PhoneNumbers": {strings.TrimPrefix(s.To, "+")}, "SignName": {p.cfg.SignName},
		"TemplateCode": {template}, "TemplateParam": {string(variables)}, "OutId": {s.ID}}
	target := strings.TrimRight(p.cfg.Endpoint, "/") + "/?" + strictQuery(query)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return notify.Permanent("the endpoint is not usable")
	}
	signAliyun(req, p.cfg, aliyunCall{action: "SendSms", version: "2017-05-25", at: p.now(), nonce: rand.Text()})
	resp, body, err := exchange(p.client, req, p.client.Timeout) // the body decides
	if err != nil {
		return notify.Unreachable(networkErrorText(err))
	}
	return aliyunResult(resp, body, p.now())
}

// aliyunResult classifies the code of an answer. It ignores the answer's message, which may quote the phone number.
func aliyunResult(resp *http.Response, body []byte, now time.Time) notify.Result {
	var answer struct{ Code string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Code == "" {
		if resp.StatusCode/100 == 2 {
			return notify.Retry("aliyun answered without a code")
		}
		return classify(resp, now)
	}
	what := "aliyun " + shorten(answer.Code)
	switch code := answer.Code; {
	case code == "OK":
		return notify.Delivered()
	case strings.HasPrefix(code, "Throttling"):
		return notify.Retry(what)
	case strings.HasPrefix(code, "InvalidAccessKeyId"), strings.HasPrefix(code, "SignatureDoesNotMatch"),
		strings.HasPrefix(code, "Forbidden"), code == "isv.AMOUNT_NOT_ENOUGH", code == "isv.OUT_OF_SERVICE",
		code == "isp.SYSTEM_ERROR", code == "ServiceUnavailable", code == "InternalError":
		return notify.Unreachable(what)
	}
	return notify.Permanent(what)
}

// shorten cuts a text to what a variable of a template may hold.
func shorten(text string) string {
	if runes := []rune(text); len(runes) > variableLength {
		return string(runes[:variableLength])
	}
	return text
}

// aliyunCall is the part of a request that goes into its headers.
type aliyunCall struct {
	action, version string
	at              time.Time
	nonce           string
}

// signAliyun signs a request by ACS3-HMAC-SHA256. All parameters are in its query. See
// https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature.
func signAliyun(req *http.Request, cfg AliyunConfig, call aliyunCall) {
	empty := sha256.Sum256(nil)
	hash := hex.EncodeToString(empty[:])
	signed := [][2]string{ // in the order of their names
		{"host", req.URL.Host}, {"x-acs-action", call.action}, {"x-acs-content-sha256", hash},
		{"x-acs-date", call.at.UTC().Format("2006-01-02T15:04:05Z")}, {"x-acs-signature-nonce", call.nonce},
		{"x-acs-version", call.version},
	}
	var lines, names strings.Builder
	for i, h := range signed {
		if i > 0 {
			req.Header.Set(h[0], h[1])
			names.WriteString(";")
		}
		names.WriteString(h[0])
		lines.WriteString(h[0] + ":" + h[1] + "\n")
	}
	canonical := strings.Join(
		[]string{req.Method, "/", req.URL.RawQuery, lines.String(), names.String(), hash}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(cfg.AccessKeySecret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(digest[:])))
	req.Header.Set("Authorization", fmt.Sprintf("ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%s",
		cfg.AccessKeyID, names.String(), hex.EncodeToString(mac.Sum(nil))))
}

// strictQuery encodes a query by RFC 3986, sorted. A space becomes %20, as signatures want it.
func strictQuery(v url.Values) string { return strings.ReplaceAll(v.Encode(), "+", "%20") }

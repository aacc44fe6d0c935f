package channel

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/providers"
	"sluice/notify"
)

// reply returns a handler that answers with a status and a JSON body.
func reply(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func smsFor(t *testing.T, change func(*SMSConfig)) *smsTransport {
	t.Helper()
	cfg := DefaultSMSConfig()
	cfg.Enabled, cfg.Timeout = true, time.Second
	change(&cfg)
	require.NoError(t, cfg.check(20*time.Second))
	w, err := NewTemplates("", English, "UTC")
	require.NoError(t, err)
	s, err := newSMS(cfg, w, slog.New(slog.DiscardHandler), time.Now)
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s
}

func TestSMSDryRunSendsNothingAndMasksTheNumber(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	require.Equal(t, notify.Skipped("the provider is dry-run"),
		dryRun{slog.New(slog.NewTextHandler(&log, nil))}.Send(t.Context(), SMS{ID: "o:e", To: annPhone}))
	require.Contains(t, log.String(), "***78")
	require.NotContains(t, log.String(), "13812345678")
	require.Equal(t, "***", maskPhone("12345"))
	require.NotEmpty(t, smsFor(t, func(*SMSConfig) {}).reaches(notify.Recipient{Email: annMail}))
}

func TestSMSByHTTPEscapes(t *testing.T) {
	t.Parallel()
	gate := providers.NewReceiver(t, providers.Status(http.StatusOK))
	s := smsFor(t, func(c *SMSConfig) {
		c.Provider = SMSGeneric
		c.HTTP = SMSHTTPConfig{URL: gate.URL + "/send?to={{query .To}}", Method: http.MethodPost,
			Body:    `{"id":{{json .ID}},"text":{{json .Text}}}`,
			Headers: map[string]string{"Authorization": "Key k-1", "Content-Type": "application/json"}}
	})
	to := ann()
	to.SaleTitle = "A \"B\"\n& C"
	to.Locale = "en"
	require.Equal(t, notify.Delivered(), s.send(t.Context(), confirmed(), to))
	require.Equal(t, "/send?to="+url.QueryEscape(annPhone), gate.Calls()[0].Path)
	require.Equal(t, "Key k-1", gate.Calls()[0].Header.Get("Authorization"))
	var body map[string]string
	require.NoError(t, json.Unmarshal([]byte(gate.Calls()[0].Body), &body))
	require.Equal(t, confirmed().ID(), body["id"])
	require.True(t, strings.HasPrefix(body["text"], to.SaleTitle+": order 456789ab confirmed."), body["text"])
}

// The status of an answer says it all: what follows it must not make a text be sent again.
func TestSMSByHTTPNeedsNoBody(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{"breaks": sendTooLittle,
		"never ends": endless(http.StatusOK)} {
		gate := providers.NewReceiver(t, answer)
		s := smsFor(t, func(c *SMSConfig) {
			c.Provider, c.HTTP = SMSGeneric, SMSHTTPConfig{URL: gate.URL, Method: http.MethodPost}
		})
		require.Equal(t, notify.Delivered(), s.send(t.Context(), confirmed(), ann()), name)
	}
}

func TestSMSByTwilio(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		answer http.HandlerFunc
		want   notify.Result
	}{
		"taken": {reply(201, `{"sid":"SM1","status":"queued"}`), notify.Delivered()},
		"no such number": {reply(400, `{"code":21211,"message":"The 'To' number `+annPhone+` is not valid"}`),
			notify.Permanent("http status 400, twilio code 21211")},
		"wrong token": {reply(401, `{"code":20003,"message":"Authenticate"}`),
			notify.Unreachable("the provider refused the key, twilio code 20003")},
		"too fast": {reply(429, `{"code":20429}`), notify.Hold(0, "http status 429, twilio code 20429")},
		"down":     {reply(503, `<html>`), notify.Unreachable("http status 503")},
		"hangs":    {hang, notify.Unreachable("no answer in time")},
		"breaks":   {sendTooLittle, notify.Delivered()},
		"endless":  {endless(201), notify.Delivered()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := providers.NewReceiver(t, one.answer)
			s := smsFor(t, func(c *SMSConfig) {
				c.Provider, c.Timeout = SMSTwilio, 300*time.Millisecond
				c.Twilio = TwilioConfig{Endpoint: api.URL, Account: "AC1", Token: "tw-token", From: "+15550100"}
			})
			require.Equal(t, one.want, s.send(t.Context(), confirmed(), ann()))
			require.Equal(t, "/2010-04-01/Accounts/AC1/Messages.json", api.Calls()[0].Path)
			form, err := url.ParseQuery(api.Calls()[0].Body)
			require.NoError(t, err)
			require.Equal(t, annPhone, form.Get("To"))
			require.Equal(t, "+15550100", form.Get("From"))
			require.Contains(t, form.Get("Body"), "已确认")
			require.Equal(t, "Basic QUMxOnR3LXRva2Vu", api.Calls()[0].Header.Get("Authorization"))
		})
	}
}

// TestAliyunSignatureIsTheDocumented checks the worked example of the provider's documentation.
func TestAliyunSignatureIsTheDocumented(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequest(http.MethodPost, "https://ecs.cn-shanghai.aliyuncs.com/?"+
		strictQuery(url.Values{"RegionId": {"cn-shanghai"},
			"ImageId": {"win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"}}), http.NoBody)
	require.NoError(t, err)
	signAliyun(req, AliyunConfig{AccessKeyID: "YourAccessKeyId", AccessKeySecret: "YourAccessKeySecret"}, aliyunCall{
		action: "RunInstances", version: "2014-05-26", at: time.Date(2023, 10, 26, 10, 22, 32, 0, time.UTC),
		nonce: "3156853299f313e23d1673dc12e1703d"})
	require.Equal(t,
		"ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;"+
			"x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"+
			"Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0", req.Header.Get(
			"Authorization"))
	require.Equal(t, "a=b%20c%2Bd", strictQuery(url.Values{"a": {"b c+d"}}))
}

func TestSMSByAliyun(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		answer http.HandlerFunc
		want   notify.Result
	}{
		"taken": {reply(200, `{"Code":"OK","BizId":"1"}`), notify.Delivered()},
		"daily limit": {reply(200, `{"Code":"isv.BUSINESS_LIMIT_CONTROL","Message":"`+annPhone+`"}`),
			notify.Permanent("aliyun isv.BUSINESS_LIMIT_CONTROL")},
		"too fast": {reply(400, `{"Code":"Throttling.User"}`), notify.Retry("aliyun Throttling.User")},
		"wrong key": {reply(404, `{"Code":"InvalidAccessKeyId.NotFound"}`),
			notify.Unreachable("aliyun InvalidAccessKeyId.NotFound")},
		"no money": {reply(200, `{"Code":"isv.AMOUNT_NOT_ENOUGH"}`),
			notify.Unreachable("aliyun isv.AMOUNT_NOT_ENOUGH")},
		"no code": {reply(200, `{}`), notify.Retry("aliyun answered without a code")},
		"down":    {reply(502, `bad gateway`), notify.Unreachable("http status 502")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := providers.NewReceiver(t, one.answer)
			s := smsFor(t, func(c *SMSConfig) {
				c.Provider = SMSAliyun
				c.Aliyun = AliyunConfig{Endpoint: api.URL, AccessKeyID: "LTAI", AccessKeySecret: "ali-secret",
					SignName: "店", Templates: map[string]string{"confirmed": "SMS_1"}}
			})
			paid := confirmed()
			paid.Event = notify.EventPaid
			require.Equal(t, notify.Skipped("no aliyun template is configured for this event"),
				s.send(t.Context(), paid, ann()))
			require.Equal(t, one.want, s.send(t.Context(), confirmed(), ann()))
			sent, err := url.Parse(api.Calls()[0].Path)
			require.NoError(t, err)
			require.Equal(t, "8613812345678", sent.Query().Get("PhoneNumbers"))
			require.Equal(t, "SMS_1", sent.Query().Get("TemplateCode"))
			require.Equal(t, "店", sent.Query().Get("SignName"))
			require.Contains(t, sent.Query().Get("TemplateParam"), `"quantity":"2"`)
			require.Equal(t, "SendSms", api.Calls()[0].Header.Get("x-acs-action"))
		})
	}
}

func TestSMSConfig(t *testing.T) {
	t.Parallel()
	cfg := DefaultSMSConfig()
	cfg.DefaultRegion = "China"
	require.ErrorContains(t, cfg.check(20*time.Second), "notify.sms.default_region", "orders are read by it")
	cfg.Enabled, cfg.DefaultRegion = true, "CN"
	require.NoError(t, cfg.check(20*time.Second))
	for provider, want := range map[string]string{"pigeon": "notify.sms.provider", SMSGeneric: "notify.sms.http",
		SMSAliyun: "notify.sms.aliyun", SMSTwilio: "notify.sms.twilio"} {
		cfg.Provider = provider
		require.ErrorContains(t, cfg.check(20*time.Second), want)
	}
	cfg.Provider, cfg.HTTP.URL, cfg.HTTP.Body = SMSGeneric, "http://gate/?t=tok-secret", "{{.Nothing}}"
	err := cfg.check(20 * time.Second)
	require.ErrorContains(t, err, "notify.sms.http")
	require.NotContains(t, err.Error(), "tok-secret")
	cfg.Provider, cfg.Aliyun = SMSAliyun, AliyunConfig{Endpoint: "https://x", AccessKeyID: "a", AccessKeySecret: "b",
		SignName: "c", Templates: map[string]string{"payed": "1"}}
	require.ErrorContains(t, cfg.check(20*time.Second), `"payed"`)
}

package channel

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/notify"
	"sluice/notify/webhook"
)

// TwilioConfig names an account at Twilio: https://www.twilio.com/docs/messaging/api/message-resource.
type TwilioConfig struct {
	// Endpoint defaults to https://api.twilio.com.
	Endpoint string `koanf:"endpoint"`
	// Account is the account's SID, Token its auth token.
	Account string `koanf:"account"`
	Token   string `koanf:"token"`
	// From is the sending number, or the SID (MG…) of a messaging service.
	From string `koanf:"from"`
}

type twilio struct {
	cfg    TwilioConfig
	client *http.Client
	now    func() time.Time
}

func newTwilio(cfg TwilioConfig, client *http.Client, now func() time.Time) (*twilio, error) {
	if cfg.Account == "" || cfg.Token == "" || cfg.From == "" {
		return nil, errors.New("notify.sms.twilio: account, token and from are required")
	}
	return &twilio{cfg, client, now}, webhook.CheckURL("notify.sms.twilio.endpoint", cfg.Endpoint)
}

// Send implements SMSProvider.
func (p *twilio) Send(ctx context.Context, s SMS) notify.Result {
	sender := "From"
	if strings.HasPrefix(p.cfg.From, "MG") {
		sender = "MessagingServiceSid"
	}
	form := url.Values{"To": {"+" + strings.TrimPrefix(s.To, "+")}, sender: {p.cfg.From}, "Body": {s.Text}}
	account := strings.TrimRight(p.cfg.Endpoint, "/") + "/2010-04-01/Accounts/" + url.PathEscape(p.cfg.Account)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, account+"/Messages.json",
		strings.NewReader(form.Encode()))
	if err != nil {
		return notify.Permanent("the endpoint is not usable")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(p.cfg.Account, p.cfg.Token)
	resp, body, err := exchange(p.client, req, explainTime)
	if err != nil {
		return notify.Unreachable(networkErrorText(err))
	}
	r := classifyKey(resp, classify(resp, p.now()))
	var problem struct {
		Code int `json:"code"` // the message beside it quotes the number
	}
	if !r.IsDelivered() && json.Unmarshal(body, &problem) == nil && problem.Code != 0 {
		return r.Explain(", twilio code " + strconv.Itoa(problem.Code))
	}
	return r
}

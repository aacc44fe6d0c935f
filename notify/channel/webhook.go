package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"sluice/internal/cloudevent"
	"sluice/notify"
	"sluice/notify/form"
	"sluice/notify/webhook"
)

// WebhookConfig configures the channel "webhook": signed calls of one URL of the shop.
type WebhookConfig struct {
	SenderConfig `koanf:",squash"`
	// URL is called with POST. Required when enabled.
	URL string `koanf:"url" secret:"true"` // some carry a token
	// Secrets sign the calls (Standard Webhooks); give several while the receiver changes to a new one.
	Secrets []string `koanf:"secrets"`
	// AllowPrivate lets the URL lead to loopback and private addresses. Defaults to false.
	AllowPrivate bool `koanf:"allow_private"`
}

func (c WebhookConfig) check(batch time.Duration) error {
	if !c.Enabled {
		return nil
	}
	errs := []error{c.SenderConfig.check("webhook", batch), webhook.CheckURL("notify.webhook.url", c.URL)}
	if _, err := webhook.NewSigner(c.Secrets...); err != nil {
		errs = append(errs, fmt.Errorf("notify.webhook.secrets: %w", err))
	}
	return errors.Join(errs...)
}

// webhookTransport posts each message, signed, with the same webhook-id at every try.
type webhookTransport struct {
	url    string
	prefix string // redis.prefix, for the source of its events
	signer *webhook.Signer
	client *http.Client
	now    func() time.Time
}

func newWebhook(cfg WebhookConfig, now func() time.Time) (*webhookTransport, error) {
	signer, err := webhook.NewSigner(cfg.Secrets...)
	if err != nil {
		return nil, fmt.Errorf("notify.webhook.secrets: %w", err)
	}
	return &webhookTransport{url: cfg.URL, signer: signer, now: now,
		client: webhook.GuardedClient(cfg.Timeout, cfg.Workers, cfg.AllowPrivate)}, nil
}

func (w *webhookTransport) name() string { return "webhook" }

func (w *webhookTransport) close() { w.client.CloseIdleConnections() }

func (w *webhookTransport) latest() bool { return false }

func (w *webhookTransport) reaches(notify.Recipient) string { return "" }

func (w *webhookTransport) send(ctx context.Context, m notify.Message, to notify.Recipient) notify.Result {
	body, err := json.Marshal(form.Of(m, to.Facts))
	if err != nil {
		return notify.Permanent("the message could not be written as JSON")
	}
	about := cloudevent.OfOrder(w.prefix, cloudevent.Order{ID: m.OrderID, Event: m.Event, Sale: m.SaleID,
		At: m.CreatedAt})
	return w.post(ctx, m.ID(), about, body)
}

// post sends a signed body with its webhook-id. Where it has attributes it is a CloudEvent in the binary content mode.
func (w *webhookTransport) post(ctx context.Context, id string, about cloudevent.Attributes, body []byte,
) notify.Result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return notify.Permanent("the URL is not usable")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Sluice")
	about.SetHeaders(req.Header)
	now := w.now()
	w.signer.Sign(req.Header, id, now, body)
	resp, _, err := exchange(w.client, req, explainTime)
	if err != nil {
		return notify.Unreachable(networkErrorText(err))
	}
	return classify(resp, now)
}

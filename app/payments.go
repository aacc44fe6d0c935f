package app

import (
	"fmt"

	"sluice/gateway"
	"sluice/notify/webhook"
	"sluice/order"
)

// payments takes the provider's callbacks; nil when orders need not be paid.
func (a *App) payments(channels []string) (*gateway.Payments, error) {
	if !a.cfg.Payment.On() {
		return nil, nil
	}
	verifier, err := webhook.NewVerifier(a.book.Now, a.cfg.Payment.Secret...)
	if err != nil {
		return nil, fmt.Errorf("payment.secret: %w", err)
	}
	payer := order.NewPayer(a.db, a.lines, a.catalog, a.cfg.Queue.Lease, channels, a.relay.Wake, a.part("order"), a.book.Now, a.opt.Registry)
	return &gateway.Payments{Verifier: verifier, Payer: payer}, nil
}

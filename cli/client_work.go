package cli

import (
	"fmt"

	"sluice/cli/opsclient"
	"sluice/configs"
	"sluice/gateway/auth"
)

// workClient returns a client of the work listener that may read one subscription.
func (c *cli) workClient(subscription, flag string) (*opsclient.Client, error) {
	loaded, err := c.loadOptions(configs.Options{Sections: []string{"work", "ops"}})
	if err != nil {
		return nil, err
	}
	cfg := loaded.Config
	p := opsclient.Params{Of: opsclient.Work()}
	if c.ca != "" {
		cfg.Ops.CAFile = c.ca
	}
	if p.Base, err = listenerURL(listenerPlace{flag: "--work", value: flag, key: "work.addr", addr: cfg.Work.Addr,
		tls: cfg.Work.TLSCert != ""}); err != nil {
		return nil, err
	}
	if p.Trust, err = loadTrust(cfg.Ops.CAFile); err != nil {
		return nil, err
	}
	if err := c.authorizeReader(&p, cfg.Auth, subscription); err != nil {
		return nil, err
	}
	return opsclient.New(p), nil
}

// authorizeReader sets p.Token to the token of the environment. Without one it sets it to a function that mints
// tokens that read one subscription.
func (c *cli) authorizeReader(p *opsclient.Params, cfg auth.Config, subscription string) error {
	if token := c.getenv("SLUICE_TOKEN"); token != "" {
		p.Token = func() (string, error) { return token, nil }
		p.Hint = "is SLUICE_TOKEN of sluice token --subscribe, and not expired?"
		return nil
	}
	if cfg.Secret == "" {
		return fmt.Errorf("no token that reads %s: set SLUICE_TOKEN (sluice token --subscribe %s mints one), "+
			"or let this command mint it by configuring auth.secret (SLUICE_AUTH__SECRET or --config)", subscription,
			subscription)
	}
	p.Token = func() (string, error) {
		return auth.MintWork(cfg, auth.Rights{System: c.operator(), Subscribe: []string{subscription}}, opsTokenTTL,
			c.now())
	}
	p.Hint = "is auth.secret here the one of the running system?"
	return nil
}

package app

import (
	"context"
	"fmt"
	"time"

	"sluice/delay/pull"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/work"
)

// openWork makes the routes of the shop's other systems and binds their listener, where there is one.
func (a *App) openWork(ctx context.Context, auth *auth.Authenticator) (err error) {
	cfg := a.cfg.Work
	if !cfg.On() {
		return nil
	}
	readers := pull.NewReaders(pull.ReadersParts{Config: a.cfg.Delay, Topics: a.topics, Messages: a.messages,
		OnDead: a.reportDead, Registry: a.opt.Registry})
	a.work = work.New(work.Parts{Config: cfg, Auth: auth, Topics: a.topics, Publisher: a.publisher, Readers: readers,
		Barred: a.guard.Err, Log: a.logFor("work"), Now: a.opt.Now, Registry: a.opt.Registry})
	if a.systemsTLS, err = a.encryption(cfg.TLSCert, cfg.TLSKey); err != nil {
		return fmt.Errorf("work.tls_cert: %w", err)
	}
	if a.systems, err = server.Listen(ctx, cfg.Addr); err != nil {
		return err
	}
	a.onStop("work listener", closer(a.systems))
	return nil
}

// receiveMargin is what an answer may take after the longest wait for messages.
const receiveMargin = 15 * time.Second

// serveWork answers the shop's other systems. The longest wait of a receiver is no slow answer.
func (a *App) serveWork() {
	cfg := a.cfg.HTTP
	cfg.WriteTimeout = max(cfg.WriteTimeout, pull.MaxWait+receiveMargin)
	srv := server.NewServer(cfg, a.work.Handler(), a.systemsTLS, nil, a.logFor("work"))
	a.serve("work server", a.systems, srv, a.work.Drain)
}

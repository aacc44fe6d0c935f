package app

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"sluice/notify"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/trace"
)

// openTracer opens the tracer. It comes first: its spans must be exported last, and log lines about traced orders
// need the trace id.
func (a *App) openTracer(ctx context.Context) (err error) {
	if a.cfg.Trace.Endpoint == "" {
		return nil
	}
	if a.tracer, err = trace.Open(ctx, a.cfg.Trace, a.opt.Version, a.logFor("trace"), a.opt.Now); err != nil {
		return err
	}
	a.log = slog.New(a.tracer.Log(a.log.Handler()))
	a.onStop("traces", func(ctx context.Context) error {
		// A collector that is away does not make the stop fail.
		if err := a.tracer.Close(ctx); err != nil {
			a.log.Warn("the last spans were not exported", "error", err)
		}
		return nil
	})
	return nil
}

// The functions below return their argument unchanged if nothing is traced.

func (a *App) tracedChannels(channels ...notify.Channel) []notify.Channel {
	if a.tracer != nil {
		for i, c := range channels {
			channels[i] = a.tracer.Channel(c)
		}
	}
	return channels
}

func (a *App) tracedHandler(h worker.MultiSaleHandler) worker.MultiSaleHandler {
	if a.tracer == nil {
		return h
	}
	return a.tracer.Handler(h)
}

func (a *App) tracedAdmission() func(*http.Request, string, queue.Ticket, time.Time) {
	if a.tracer == nil {
		return nil
	}
	return a.tracer.Admitted
}

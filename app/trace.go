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

// openTracer comes first, so that its spans are exported last, and every log line about a traced order says so.
func (a *App) openTracer(ctx context.Context) (err error) {
	if a.cfg.Trace.Endpoint == "" {
		return nil
	}
	if a.tracer, err = trace.Open(ctx, a.cfg.Trace, a.opt.Version, a.part("trace"), a.opt.Now); err != nil {
		return err
	}
	a.log = slog.New(a.tracer.Log(a.log.Handler()))
	a.onStop("traces", func(ctx context.Context) error {
		// A collector that is away is no reason to call the stop failed.
		if err := a.tracer.Close(ctx); err != nil {
			a.log.Warn("the last spans were not exported", "error", err)
		}
		return nil
	})
	return nil
}

// What follows leaves everything as it is where nothing is traced.

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

package trace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"sluice/notify"
	"sluice/queue"
	"sluice/queue/worker"
)

// Handler returns next with tracing: for each sampled ticket it records the wait and the transaction.
func (t *Tracer) Handler(next worker.MultiSaleHandler) worker.MultiSaleHandler {
	return handler{next, t}
}

type handler struct {
	worker.MultiSaleHandler
	tracer *Tracer
}

// Handle implements worker.Handler.
func (h handler) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	from := h.tracer.now()
	outcomes, err := h.MultiSaleHandler.Handle(ctx, b)
	h.tracer.recordBatch(b, outcomes, err, from, "order.fulfil")
	return outcomes, err
}

// HandleMultiSale implements worker.MultiSaleHandler. It records nothing of a failed multi-sale batch, whose sales are
// then handled one by one.
func (h handler) HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	from := h.tracer.now()
	answers, err := h.MultiSaleHandler.HandleMultiSale(ctx, batches)
	if err != nil || len(answers) != len(batches) {
		return answers, err
	}
	for i, b := range batches {
		h.tracer.recordBatch(b, answers[i], nil, from, "order.fulfil")
	}
	return answers, nil
}

// Bury implements worker.Handler.
func (h handler) Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	from := h.tracer.now()
	outcomes, err := h.MultiSaleHandler.Bury(ctx, b, reason)
	h.tracer.recordBatch(b, outcomes, err, from, "order.bury")
	return outcomes, err
}

func (t *Tracer) recordBatch(b queue.Batch, outcomes []queue.Outcome, err error, from time.Time, name string) {
	to := t.now()
	for _, ticket := range b.Tickets {
		id, ok := t.sampled(ticket.ID)
		if !ok {
			continue
		}
		if ticket.Attempts == 0 {
			t.record(id, span{name: "order.wait", from: ticket.AdmittedAt, to: from, kind: trace.SpanKindConsumer,
				attrs: []attribute.KeyValue{
					attribute.String("sluice.sale", b.Sale), attribute.Int64("sluice.seq", ticket.Seq),
				}})
		}
		t.record(id, span{name: name, from: from, to: to, kind: trace.SpanKindInternal,
			failure: failureText(ticket.ID, outcomes, err),
			attrs: []attribute.KeyValue{attribute.String("sluice.sale", b.Sale), attribute.String("sluice.batch", b.ID),
				attribute.Int("sluice.batch_size", len(b.Tickets)),
				attribute.Int("sluice.attempt", ticket.Attempts+1)}})
	}
}

// failureText says why a ticket has not become an order, or returns "" when it has.
func failureText(order string, outcomes []queue.Outcome, err error) string {
	for _, o := range outcomes {
		if o.ID != order {
			continue
		}
		switch o.Op {
		case queue.OpFail, queue.OpDead:
			return o.Reason
		case queue.OpRetry:
			return "to be tried again"
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	return "given back"
}

// Channel returns next with tracing: it records each delivery of a sampled order's events.
func (t *Tracer) Channel(next notify.Channel) notify.Channel { return channel{next, t} }

type channel struct {
	notify.Channel
	tracer *Tracer
}

// Pause implements notify.Pausing for channels that do.
func (c channel) Pause() time.Duration {
	if p, ok := c.Channel.(notify.Pausing); ok {
		return p.Pause()
	}
	return 0
}

// Width implements notify.Wide for channels that do.
func (c channel) Width() int {
	if w, ok := c.Channel.(notify.Wide); ok {
		return w.Width()
	}
	return 1
}

// Latest implements notify.Latest for channels that do.
func (c channel) Latest() bool {
	l, ok := c.Channel.(notify.Latest)
	return ok && l.Latest()
}

// Workers implements notify.Flowing for channels that do.
func (c channel) Workers() int {
	if f, ok := c.Channel.(notify.Flowing); ok {
		return f.Workers()
	}
	return 0
}

// Room implements notify.Flowing for channels that do.
func (c channel) Room(within time.Duration) int {
	if f, ok := c.Channel.(notify.Flowing); ok {
		return f.Room(within)
	}
	return 0
}

// Begin implements notify.Flowing for channels that do. A span begins with the batch: it shows the wait for a worker.
func (c channel) Begin(ctx context.Context, messages []notify.Message, report func(int, notify.Result)) func() {
	f, ok := c.Channel.(notify.Flowing)
	if !ok {
		return func() {}
	}
	from := c.tracer.now()
	return f.Begin(ctx, messages, func(place int, r notify.Result) {
		c.delivered(messages[place], from, r.Failure())
		report(place, r)
	})
}

// Deliver implements notify.Channel.
func (c channel) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	from := c.tracer.now()
	results := c.Channel.Deliver(ctx, messages)
	for i, m := range messages {
		failure := "no result"
		if i < len(results) {
			failure = results[i].Failure()
		}
		c.delivered(m, from, failure)
	}
	return results
}

// delivered records the delivery of a message of a sampled order.
func (c channel) delivered(m notify.Message, from time.Time, failure string) {
	id, ok := c.tracer.sampled(m.OrderID)
	if !ok {
		return
	}
	c.tracer.record(id, span{name: "order.notify", from: from, to: c.tracer.now(), kind: trace.SpanKindProducer,
		failure: failure,
		attrs: []attribute.KeyValue{attribute.String("sluice.channel", c.Name()),
			attribute.String("sluice.event", m.Event), attribute.Int("sluice.attempt", m.Attempt)}})
}

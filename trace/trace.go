package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"sluice/queue"
)

// Tracer exports the spans of sampled orders. Safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	bound    uint64 // orders with a lower tail are sampled
	now      func() time.Time
}

// Open returns a Tracer that exports to cfg.Endpoint in the background. A collector that is away delays nothing. Close
// the Tracer.
func Open(ctx context.Context, cfg Config, version string, log *slog.Logger, now func() time.Time) (*Tracer, error) {
	// The SDK has one error handler for the process; its default writes plain text to standard error.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were not exported", "error", err) }))
	exporter, err := otlptrace.New(ctx, newCollector(cfg.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("trace.endpoint: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	what := resource.NewSchemaless(attribute.String("service.name", "sluice"),
		attribute.String("service.version", version),
		attribute.String("service.instance.id", host))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(what),
		sdk.WithIDGenerator(ids{}), sdk.WithSampler(sdk.AlwaysSample()))
	bound := uint64(cfg.Sample * (1 << 62))
	return &Tracer{provider: provider, tracer: provider.Tracer("sluice"), bound: bound, now: now}, nil
}

// Close exports the remaining spans and stops, at the latest when ctx ends.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// sampled reports whether an order is traced. It depends on the id alone, so that all processes agree.
func (t *Tracer) sampled(order string) (orderID, bool) {
	id, ok := parse(order)
	return id, ok && id.tail() < t.bound
}

// Admitted records the request that placed a new order. A trace of the client is linked, never continued, because
// shoppers must not choose what is sampled.
func (t *Tracer) Admitted(r *http.Request, sale string, ticket queue.Ticket, since time.Time) {
	id, ok := t.sampled(ticket.ID)
	if !ok {
		return
	}
	options := []trace.SpanStartOption{trace.WithTimestamp(since),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithNewRoot(),
		trace.WithAttributes(attribute.String("sluice.sale", sale), attribute.String("sluice.order", ticket.ID),
			attribute.Int64("sluice.position", ticket.Position))}
	caller := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
	if remote := trace.SpanContextFromContext(caller); remote.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: remote}))
	}
	_, span := t.tracer.Start(context.WithValue(context.Background(), rootKey{}, id), "order", options...)
	span.End(trace.WithTimestamp(t.now()))
}

// span is one finished step of an order.
type span struct {
	name     string
	from, to time.Time
	kind     trace.SpanKind
	failure  string // why the step failed; empty: it did not
	attrs    []attribute.KeyValue
}

func (t *Tracer) record(id orderID, s span) {
	_, step := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), id.root()), s.name,
		trace.WithTimestamp(s.from), trace.WithSpanKind(s.kind), trace.WithAttributes(s.attrs...))
	if s.failure != "" {
		step.SetStatus(codes.Error, s.failure)
	}
	step.End(trace.WithTimestamp(s.to))
}

// Log returns next with tracing: it adds trace_id to each line whose attribute "order" is a sampled order.
func (t *Tracer) Log(next slog.Handler) slog.Handler { return logHandler{Handler: next, tracer: t} }

package trace

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// orderID is an order's id, used as its trace id.
type orderID uuid.UUID

// parse parses an order's id. It reports false for an id that no gateway made.
func parse(order string) (orderID, bool) {
	id, err := uuid.Parse(order)
	return orderID(id), err == nil && len(order) == 36
}

// tail returns the 62 random bits after the UUID's variant.
func (id orderID) tail() uint64 { return binary.BigEndian.Uint64(id[8:]) << 2 >> 2 }

// root returns the context of the order's root span, the parent of all others.
func (id orderID) root() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: trace.SpanID(id[8:]),
		TraceFlags: trace.FlagsSampled, Remote: true})
}

// rootKey is the context key of a root span's order.
type rootKey struct{}

// ids generates span ids: for a root span those of its order, for others random ones.
type ids struct{}

// NewIDs implements the SDK's IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(rootKey{}).(orderID)
	return trace.TraceID(id), trace.SpanID(id[8:])
}

// NewSpanID implements the SDK's IDGenerator.
func (ids) NewSpanID(context.Context, trace.TraceID) (span trace.SpanID) {
	_, _ = rand.Read(span[:]) // it never fails
	return span
}

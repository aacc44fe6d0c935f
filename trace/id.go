package trace

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// orderID is an order's id as a trace id.
type orderID uuid.UUID

// parse refuses ids that were not made by a gateway.
func parse(order string) (orderID, bool) {
	id, err := uuid.Parse(order)
	return orderID(id), err == nil && len(order) == 36
}

// tail are the 62 random bits behind the variant, which is the same in every UUID.
func (id orderID) tail() uint64 { return binary.BigEndian.Uint64(id[8:]) << 2 >> 2 }

// root is the span every other span of the order hangs from.
func (id orderID) root() trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: trace.SpanID(id[8:]),
		TraceFlags: trace.FlagsSampled, Remote: true})
}

// rootKey marks the context of a root span.
type rootKey struct{}

// ids gives a root span the ids of its order, and random ones to the others.
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

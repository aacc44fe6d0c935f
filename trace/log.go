package trace

import (
	"context"
	"encoding/hex"
	"log/slog"
)

type logHandler struct {
	slog.Handler
	tracer *Tracer
}

// Handle implements slog.Handler.
func (h logHandler) Handle(ctx context.Context, line slog.Record) error {
	line.Attrs(func(a slog.Attr) bool {
		if a.Key != "order" || a.Value.Kind() != slog.KindString {
			return true
		}
		if id, ok := h.tracer.sampled(a.Value.String()); ok {
			line = line.Clone()
			line.AddAttrs(slog.String("trace_id", hex.EncodeToString(id[:])))
		}
		return false
	})
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs), h.tracer}
}

// WithGroup implements slog.Handler.
func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name), h.tracer}
}

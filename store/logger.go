package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

const (
	slowQuery    = time.Second
	maxLoggedSQL = 200
)

// queryLogger logs failed and slow statements as warnings. It writes no parameter and no error text of a database,
// because both can contain personal data. The statement's shape and the error's code are enough to find the cause.
type queryLogger struct{ log *slog.Logger }

func newQueryLogger(log *slog.Logger) logger.Interface { return queryLogger{log} }

// LogMode returns q unchanged: the slog handler decides on the level.
func (q queryLogger) LogMode(logger.LogLevel) logger.Interface { return q }

// Info drops gorm's own notes.
func (q queryLogger) Info(context.Context, string, ...any) {}

// Warn passes gorm's text on without its arguments.
func (q queryLogger) Warn(ctx context.Context, msg string, _ ...any) {
	q.log.WarnContext(ctx, "store: gorm", "note", msg)
}

// Error passes gorm's text on without its arguments.
func (q queryLogger) Error(ctx context.Context, msg string, _ ...any) {
	q.log.WarnContext(ctx, "store: gorm", "note", msg)
}

// Trace gets every statement. It does not log refusals that callers expect (no row, duplicate) or their own
// cancellations.
func (q queryLogger) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	elapsed := time.Since(begin)
	expected := err == nil || errors.Is(err, gorm.ErrRecordNotFound) || errors.Is(err, context.Canceled) ||
		Duplicate(err)
	if expected && elapsed < slowQuery {
		return
	}
	if !q.log.Enabled(ctx, slog.LevelWarn) {
		return
	}
	sql, rows := statement()
	attrs := []any{"sql", shorten(sql), "rows", rows, "elapsed", elapsed}
	if expected {
		q.log.WarnContext(ctx, "store: slow statement", attrs...)
		return
	}
	q.log.WarnContext(ctx, "store: statement failed", append(attrs, "error", Code(err))...)
}

// ParamsFilter keeps gorm from writing values into the statement it shows.
func (q queryLogger) ParamsFilter(_ context.Context, sql string, _ ...any) (string, []any) {
	return sql, nil
}

func shorten(sql string) string {
	if len(sql) <= maxLoggedSQL {
		return sql
	}
	return fmt.Sprintf("%s… (%d bytes)", sql[:maxLoggedSQL], len(sql))
}

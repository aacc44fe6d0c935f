package store

import (
	"context"
	"fmt"
	"time"
)

// Time returns the time by the database's clock, which all processes share. SQLite has only this machine's.
func (db *DB) Time(ctx context.Context) (time.Time, error) {
	var query string
	switch db.Driver {
	case MySQL: // no time zone, and so no hour that comes twice, takes part in it
		query = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
	case Postgres:
		query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
	default:
		return time.Now(), nil
	}
	var micros int64
	if err := db.Read.WithContext(ctx).Raw(query).Scan(&micros).Error; err != nil {
		return time.Time{}, fmt.Errorf("ask the database for its time: %w", err)
	}
	return time.UnixMicro(micros), nil
}

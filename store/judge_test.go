package store

import (
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// The codes that a test cannot easily bring about on a real server.
func TestJudgeByCode(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code} }
	my := func(number uint16) error { return &mysql.MySQLError{Number: number} }
	tests := []struct {
		name      string
		err       error
		down, dup bool
	}{
		{"postgres too many connections", pg("53300"), true, false},
		{"postgres disk full", pg("53100"), true, false},
		{"postgres shutting down", pg("57P01"), true, false},
		{"postgres starting", pg("57P03"), true, false},
		{"postgres statement timeout", pg("57014"), true, false},
		{"postgres lock timeout", pg("55P03"), true, false},
		{"postgres read-only", pg("25006"), true, false},
		{"postgres I/O error", pg("58030"), true, false},
		{"postgres wrong password", pg("28P01"), true, false},
		{"postgres permission", pg("42501"), true, false},
		{"postgres serialization", pg("40001"), true, false},
		{"postgres ignored error", pg("25P02"), false, false},
		{"postgres number out of range", pg("22003"), false, false},
		{"postgres without a code", pg(""), true, false},
		{"mysql too many connections", my(1040), true, false},
		{"mysql table full", my(1114), true, false},
		{"mysql shutting down", my(1053), true, false},
		{"mysql read-only", my(1290), true, false},
		{"mysql wrong password", my(1045), true, false},
		{"mysql lock wait", my(1205), true, false},
		{"mysql statement time", my(1969), true, false},
		{"mysql packet too large", my(1153), false, false},
		{"mysql number out of range", my(1264), false, false},
		{"mysql duplicate", my(1062), false, true},
		{"gorm duplicate", gorm.ErrDuplicatedKey, false, true},
		{"wrapped", fmt.Errorf("fulfil: %w", my(1213)), true, false},
	}
	for _, tt := range tests {
		require.Equal(t, tt.down, Unavailable(tt.err), tt.name)
		require.Equal(t, tt.dup, Duplicate(tt.err), tt.name)
	}
}

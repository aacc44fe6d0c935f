package rewrite

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKindsOfStatements(t *testing.T) {
	t.Parallel()
	for statement, kind := range map[string]string{
		"BEGIN": OnBegin, "start transaction": OnBegin, "begin isolation level serializable": OnBegin,
		"COMMIT": OnCommit, "commit;": OnCommit,
		"\n\tSELECT 1": OnRead, "select(1)": OnRead, "INSERT INTO a": OnWrite, "update a": OnWrite,
		"ROLLBACK": "", "SET a=1": "", "": "",
	} {
		require.Equal(t, kind, kindOf(statement), "%q", statement)
	}
}

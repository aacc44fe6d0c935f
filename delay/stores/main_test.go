package stores_test

import (
	"testing"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

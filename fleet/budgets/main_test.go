package budgets

import (
	"testing"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

package inventory_test

import (
	"testing"

	"sluice/internal/testkit/orders"
)

func TestMain(m *testing.M) { orders.VerifyMain(m) }

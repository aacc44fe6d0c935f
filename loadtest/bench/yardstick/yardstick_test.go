package yardstick

import (
	"strings"
	"testing"
)

func TestMultiRowStatementAndArgumentsFit(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"mysql", "postgres", "sqlite"} {
		for _, j := range []Job{{Driver: driver, Orders: 25, Batch: 10, Workers: 1},
			{Driver: driver, Orders: 5000, Batch: 2000, Workers: 1}} {
			list := j.batches()
			if len(list) != 2 || len(list[1].orders)*j.rows() != j.Batch || len(list[1].outbox) != len(list[1].orders) {
				t.Fatalf("%d whole batches of %d orders in %d statements each", len(list), j.Orders,
					len(list[1].orders))
			}
			for table, c := range map[string]struct {
				columns string
				args    []any
			}{"orders": {orderColumns, list[1].orders[0]}, "outbox": {outboxColumns, list[1].outbox[0]}} {
				text := j.multiRow(table, c.columns)
				marks := strings.Count(text, "?") + strings.Count(text, "$")
				if marks != len(c.args) || marks > 32_766 || strings.Count(text, "),(") != j.rows()-1 {
					t.Errorf("%s %s: %d placeholders for %d arguments", driver, table, marks, len(c.args))
				}
			}
		}
	}
}

func TestRefusalAndOrdersHaveTheShapeOfTheGateways(t *testing.T) {
	t.Parallel()
	if len(id) != 36 || len(randomID()) != 36 {
		t.Fatal("an order's id has 36 characters")
	}
	if !strings.HasPrefix(refusal, "{") || !strings.HasSuffix(refusal, "}") {
		t.Fatal(refusal)
	}
}

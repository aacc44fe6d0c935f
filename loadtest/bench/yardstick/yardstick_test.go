package yardstick

import (
	"strings"
	"testing"
)

func TestMultiRowStatementAndArgumentsFit(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"mysql", "postgres", "sqlite"} {
		j := Job{Driver: driver, Orders: 25, Batch: 10, Workers: 1}
		list := j.batches()
		if len(list) != 2 {
			t.Fatalf("%d whole batches of 25 orders", len(list))
		}
		for table, c := range map[string]struct {
			columns string
			args    []any
		}{"orders": {orderColumns, list[0].orders}, "outbox": {outboxColumns, list[0].outbox}} {
			text := j.multiRow(table, c.columns)
			marks := strings.Count(text, "?") + strings.Count(text, "$")
			if marks != len(c.args) || strings.Count(text, "),(") != j.Batch-1 {
				t.Errorf("%s %s: %d placeholders for %d arguments in %s", driver, table, marks, len(c.args), text)
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

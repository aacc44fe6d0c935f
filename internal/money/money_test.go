package money_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/money"
)

func TestMinorUnitsAreThoseOfISO4217(t *testing.T) {
	t.Parallel()
	for want, one := range map[string]struct {
		minor    int64
		currency string
	}{
		"99.00 CNY": {9900, "CNY"}, "9900 JPY": {9900, "JPY"}, "9.900 KWD": {9900, "KWD"}, "0.9900 CLF": {9900, "CLF"},
		"0.05 EUR": {5, "EUR"}, "0 KRW": {0, "KRW"}, "0.007 TND": {7, "TND"}, "-1.50 USD": {-150, "USD"},
		"-92233720368547758.08 HUF": {math.MinInt64, "HUF"}, "1.00 XXX": {100, "XXX"}, "1.00 ": {100, ""},
	} {
		require.Equal(t, want, money.Format(one.minor, one.currency))
	}
}

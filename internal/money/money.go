// Package money writes amounts as people read them.
package money

import (
	"fmt"
	"strings"
)

// Format writes an amount, given in the currency's smallest unit, with its code: 99.00 CNY, 9900 JPY, 9.900 KWD.
func Format(minor int64, currency string) string {
	digits := minorDigits(currency)
	sign := ""
	if minor < 0 {
		sign = "-"
	}
	text := fmt.Sprintf("%0*d", digits+1, magnitude(minor))
	whole, rest := text[:len(text)-digits], text[len(text)-digits:]
	if digits > 0 {
		rest = "." + rest
	}
	return sign + whole + rest + " " + currency
}

// magnitude returns n without its sign. It is exact for the smallest number, too.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n) // #nosec G115 -- two's complement is what is wanted
	}
	return uint64(n)
}

// The currencies of ISO 4217 whose smallest unit is not a hundredth, as of its list one of 2024.
const (
	noDigits    = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
	threeDigits = "BHD IQD JOD KWD LYD OMR TND"
	fourDigits  = "CLF UYW"
)

// minorDigits returns how many digits stand behind the point.
func minorDigits(currency string) int {
	for digits, codes := range map[int]string{0: noDigits, 3: threeDigits, 4: fourDigits} {
		if len(currency) == 3 && strings.Contains(codes, currency) {
			return digits
		}
	}
	return 2
}

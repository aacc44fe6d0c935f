package gateway

import "strings"

// locales are the languages in which shoppers are told of their orders.
func locales() []string { return []string{"zh-CN", "en"} }

// localeOf is the language an Accept-Language header likes best of those there
// are, or the one given.
func localeOf(accept, otherwise string) string {
	best, most := otherwise, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		tag, params, _ := strings.Cut(part, ";")
		language, _, _ := strings.Cut(strings.TrimSpace(tag), "-")
		for _, locale := range locales() {
			known, _, _ := strings.Cut(locale, "-")
			if q := qualityOf(params); strings.EqualFold(language, known) && q > most {
				best, most = locale, q
			}
		}
	}
	return best
}

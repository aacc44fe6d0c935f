package api

import (
	"strconv"
	"strings"
)

// Locales returns the languages in which shoppers are told of their orders.
func Locales() []string { return []string{"zh-CN", "en"} }

// LocaleOf returns the language an Accept-Language header likes best of those there
// are, or the one given.
func LocaleOf(accept, otherwise string) string {
	best, most := otherwise, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		tag, params, _ := strings.Cut(part, ";")
		language, _, _ := strings.Cut(strings.TrimSpace(tag), "-")
		for _, locale := range Locales() {
			known, _, _ := strings.Cut(locale, "-")
			if q := qualityOf(params); strings.EqualFold(language, known) && q > most {
				best, most = locale, q
			}
		}
	}
	return best
}

// prefersHTML reports whether the Accept lines ask for text/html rather than JSON. A bare */* is how programs say
// that they do not care, so it never counts as HTML. On equal weight a JSON type named outright wins.
func prefersHTML(accept []string) bool {
	const named, family, wildcard = 3, 2, 1
	var html, jsn struct {
		q     float64
		level int
	}
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			mediaRange, params, _ := strings.Cut(part, ";")
			q := qualityOf(params)
			switch strings.ToLower(strings.TrimSpace(mediaRange)) {
			case "text/html":
				html.q, html.level = q, named
			case "text/*":
				if html.level < family {
					html.q, html.level = q, family
				}
			case "application/json", "application/problem+json":
				if jsn.level < named || q > jsn.q {
					jsn.q, jsn.level = q, named
				}
			case "application/*":
				if jsn.level < family {
					jsn.q, jsn.level = q, family
				}
			case "*/*":
				if jsn.level < wildcard {
					jsn.q, jsn.level = q, wildcard
				}
			}
		}
	}
	return html.q > jsn.q || (html.q > 0 && html.q == jsn.q && html.level > jsn.level)
}

// qualityOf reads the q parameter; absent is 1, and a value outside 0..1 makes the range unacceptable.
func qualityOf(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}

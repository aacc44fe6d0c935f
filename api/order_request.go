package api

import (
	"net/mail"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxQuantity   = 1000
	maxEmailBytes = 254
)

// OrderRequest is what a shopper asks for. All but Quantity are empty when not given.
type OrderRequest struct {
	Quantity int
	Email    string
	Phone    string
	Locale   string
}

// DecodeOrder reads the body strictly: no repeated or unknown member, no other type, nothing after the object. An empty
// body orders one unit. Each error names the member and the rule; a body with errors is the zero OrderRequest.
func DecodeOrder(body []byte) (OrderRequest, []FieldError) {
	order := OrderRequest{Quantity: 1}
	if len(body) == 0 {
		return order, nil
	}
	var raw struct {
		Quantity jsontext.Value `json:"quantity"`
		Email    jsontext.Value `json:"email"`
		Phone    jsontext.Value `json:"phone"`
		Locale   jsontext.Value `json:"locale"`
	}
	if kind := jsontext.Value(body).Kind(); kind != jsontext.KindBeginObject {
		return OrderRequest{}, []FieldError{{"body", "must be one JSON object"}}
	}
	if err := json.Unmarshal(body, &raw, json.RejectUnknownMembers(true)); err != nil {
		return OrderRequest{}, []FieldError{DecodeError(err)}
	}
	var errs []FieldError
	check := func(field, rule string, ok bool) {
		if !ok {
			errs = append(errs, FieldError{field, rule})
		}
	}
	if raw.Quantity != nil {
		var ok bool
		order.Quantity, ok = quantityOf(raw.Quantity)
		check("quantity", "must be a whole number from 1 to 1000, written in digits only", ok)
	}
	if raw.Email != nil {
		var ok bool
		order.Email, ok = TextOf(raw.Email)
		check("email", "must be an e-mail address like ann@example.com of at most 254 bytes; "+
			"leave it out if there is none",
			ok && validEmail(order.Email))
	}
	if raw.Phone != nil {
		var ok bool
		order.Phone, ok = TextOf(raw.Phone)
		check("phone", "must be + and 8 to 15 digits, country code first, like +8613800138000; "+
			"leave it out if there is none",
			ok && validPhone(order.Phone))
	}
	if raw.Locale != nil {
		var ok bool
		order.Locale, ok = TextOf(raw.Locale)
		check("locale", "must be one of "+strings.Join(Locales(), ", ")+"; leave it out to go by Accept-Language",
			ok && slices.Contains(Locales(), order.Locale))
	}
	if errs != nil {
		return OrderRequest{}, errs
	}
	return order, nil
}

// quantityOf refuses 1.0 and 1e2 too: readers of JSON disagree on whether they are whole numbers.
func quantityOf(value jsontext.Value) (int, bool) {
	if len(value) > 4 || value.Kind() != jsontext.KindNumber {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value), 10, 16)
	return int(n), err == nil && n >= 1 && n <= maxQuantity
}

// validEmail accepts a bare address with a dotted domain. Quoted local parts, display names, comments and address
// literals are refused: they reach mail servers in ways a shopper never needs.
func validEmail(text string) bool {
	if len(text) > maxEmailBytes || !Printable(text) {
		return false
	}
	local, domain, ok := strings.Cut(text, "@")
	if !ok || len(local) > 64 || !strings.Contains(domain, ".") || strings.Contains(domain, "[") {
		return false
	}
	parsed, err := mail.ParseAddress(text)
	return err == nil && parsed.Name == "" && parsed.Address == text
}

func validPhone(text string) bool {
	if len(text) < 9 || len(text) > 16 || text[0] != '+' || text[1] == '0' {
		return false
	}
	for i := 1; i < len(text); i++ {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

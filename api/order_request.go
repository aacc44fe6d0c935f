package api

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/internal/phone"
)

const (
	maxQuantity   = 1000
	maxEmailBytes = 254 // of an address, by RFC 5321, and of its parts
	maxLocalBytes = 64
	maxLabelBytes = 63
)

// OrderRequest is what a shopper asks for. All but Quantity are empty when not given.
type OrderRequest struct {
	Quantity int
	Email    string
	Phone    string // E.164
	Locale   string
}

// DecodeOrder reads the body strictly: no repeated or unknown member, no other type, nothing after the object. An empty
// body orders one unit. Each error names the member and the rule; a body with errors is the zero OrderRequest.
func DecodeOrder(body []byte) (OrderRequest, []FieldError) { return DecodeOrderIn(phone.Plan{}, body) }

// DecodeOrderIn reads the body as DecodeOrder does, and phone numbers as the plan's region writes them, too.
func DecodeOrderIn(plan phone.Plan, body []byte) (OrderRequest, []FieldError) {
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
		if order.Phone, ok = TextOf(raw.Phone); ok {
			order.Phone, ok = plan.E164(order.Phone)
		}
		check("phone", "must be + and 8 to 15 digits, country code first, like +8613800138000; "+
			"leave it out if there is none", ok)
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

// validEmail accepts what looks like a bare address with a dotted domain. A place in line must not be lost for an
// optional field. So dots may stand anywhere in front of the @: there are mailboxes like that. What is refused would
// reach mail servers as something else: quotes, comments, lists, display names and address literals.
func validEmail(text string) bool {
	if len(text) > maxEmailBytes || !Printable(text) || strings.ContainsFunc(text, apartInAddress) {
		return false
	}
	local, domain, _ := strings.Cut(text, "@")
	if local == "" || len(local) > maxLocalBytes || !strings.Contains(domain, ".") {
		return false
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabelBytes || strings.Contains(label, "@") {
			return false
		}
	}
	return true
}

// apartInAddress reports whether a character has a meaning of its own in an address.
func apartInAddress(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"(),:;<>[\]`, r) }

package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBodyBytes  = 16 << 10
	maxQuantity   = 1000
	maxEmailBytes = 254
)

// OrderBody is what a shopper asks for. All but Quantity are empty when not given.
type OrderBody struct {
	Quantity int
	Email    string
	Phone    string
	Locale   string
}

// ReadBody reads at most 16 KiB. A slow sender is cut off by http.read_timeout. A body that is not declared as JSON is
// refused; one without a Content-Type, or with the one curl sends unasked, is taken for JSON.
func ReadBody(r *http.Request) ([]byte, *Problem) { return readUpTo(r, maxBodyBytes) }

// readUpTo is ReadBody with another bound.
func readUpTo(r *http.Request, most int64) ([]byte, *Problem) {
	if r.ContentLength > most {
		return nil, tooLarge(most)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := readAll(r, most+1)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p := NewProblem(CodeInvalidRequest, "The body did not arrive in time.")
		return nil, &p
	case err != nil:
		p := NewProblem(CodeInvalidRequest, "The body could not be read to its end.")
		return nil, &p
	case int64(len(body)) > most:
		return nil, tooLarge(most)
	case len(body) > 0 && !declaredJSON(r.Header):
		p := NewProblem(CodeUnsupportedMedia, "Send Content-Type: application/json in UTF-8, without a Content-Encoding.")
		return nil, &p
	}
	return body, nil
}

// readAll reads a body of known length into as much memory, any other up to most bytes.
func readAll(r *http.Request, most int64) ([]byte, error) {
	if r.ContentLength <= 0 {
		return io.ReadAll(io.LimitReader(r.Body, most))
	}
	if whole, ok := r.Body.(interface{ Bytes() []byte }); ok { // in memory already
		return whole.Bytes(), nil
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

func tooLarge(most int64) *Problem {
	p := NewProblem(CodeTooLarge, "The body may have "+strconv.FormatInt(most, 10)+" bytes at most.")
	return &p
}

func declaredJSON(h http.Header) bool {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false
	}
	declared := h.Get("Content-Type")
	// curl -d declares a form whatever it sends.
	if declared == "" || declared == "application/json" || declared == "application/x-www-form-urlencoded" {
		return true
	}
	media, params, err := mime.ParseMediaType(declared)
	charset, hasCharset := params["charset"]
	return err == nil && media == "application/json" && (!hasCharset || strings.EqualFold(charset, "utf-8"))
}

// DecodeOrder reads the body strictly: no repeated or unknown member, no other type, nothing after the object. An empty
// body orders one unit. Each error names the member and the rule; a body with errors is the zero OrderBody.
func DecodeOrder(body []byte) (OrderBody, []FieldError) {
	order := OrderBody{Quantity: 1}
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
		return OrderBody{}, []FieldError{{"body", "must be one JSON object"}}
	}
	if err := json.Unmarshal(body, &raw, json.RejectUnknownMembers(true)); err != nil {
		return OrderBody{}, []FieldError{decodeError(err)}
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
		order.Email, ok = textOf(raw.Email)
		check("email", "must be an e-mail address like ann@example.com of at most 254 bytes; leave it out if there is none",
			ok && validEmail(order.Email))
	}
	if raw.Phone != nil {
		var ok bool
		order.Phone, ok = textOf(raw.Phone)
		check("phone", "must be + and 8 to 15 digits, country code first, like +8613800138000; leave it out if there is none",
			ok && validPhone(order.Phone))
	}
	if raw.Locale != nil {
		var ok bool
		order.Locale, ok = textOf(raw.Locale)
		check("locale", "must be one of "+strings.Join(locales(), ", ")+"; leave it out to go by Accept-Language", ok && slices.Contains(locales(), order.Locale))
	}
	if errs != nil {
		return OrderBody{}, errs
	}
	return order, nil
}

// decodeError names the member the decoder stopped at. It repeats a member's name only if that is short and
// printable: the answer should not become a mirror for whatever was sent.
func decodeError(err error) FieldError {
	var pointer jsontext.Pointer
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		pointer = syntactic.JSONPointer
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		pointer = semantic.JSONPointer
	}
	field := "body"
	for name := range pointer.Tokens() {
		if len(name) > 0 && len(name) <= 64 && printable(name) {
			field = name
		}
		break
	}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return FieldError{field, "must not be given twice"}
	case errors.Is(err, json.ErrUnknownName):
		return FieldError{field, "is not a member of this request"}
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok && field != "body" {
		return FieldError{field, "must not be a JSON " + semantic.JSONKind.String() + ", or is out of range"}
	}
	return FieldError{field, "must be well-formed JSON in UTF-8, one object and nothing after it"}
}

// quantityOf refuses 1.0 and 1e2 too: readers of JSON disagree on whether they are whole numbers.
func quantityOf(value jsontext.Value) (int, bool) {
	if len(value) > 4 || value.Kind() != jsontext.KindNumber {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value), 10, 16)
	return int(n), err == nil && n >= 1 && n <= maxQuantity
}

func textOf(value jsontext.Value) (string, bool) {
	if value.Kind() != jsontext.KindString {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err == nil
}

// validEmail accepts a bare address with a dotted domain. Quoted local parts, display names, comments and address
// literals are refused: they reach mail servers in ways a shopper never needs.
func validEmail(text string) bool {
	if len(text) > maxEmailBytes || !printable(text) {
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

func alphanumeric(b byte) bool {
	return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z')
}

func printable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

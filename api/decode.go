package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const maxBodyBytes = 16 << 10

// ReadBody reads at most 16 KiB. A slow sender is cut off by http.read_timeout. A body that is not declared as JSON
// is refused. One without a Content-Type, or with the one curl sends unasked, is taken for JSON.
func ReadBody(r *http.Request) ([]byte, *Problem) { return ReadUpTo(r, maxBodyBytes) }

// ReadUpTo reads a body as ReadBody does, with another bound.
func ReadUpTo(r *http.Request, most int64) ([]byte, *Problem) {
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
		p := NewProblem(CodeUnsupportedMedia,
			"Send Content-Type: application/json in UTF-8, without a Content-Encoding.")
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

// DecodeError names the member the decoder stopped at. It repeats a member's name only if that is short and
// Printable. The answer should not become a mirror for whatever was sent.
func DecodeError(err error) FieldError {
	var pointer jsontext.Pointer
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		pointer = syntactic.JSONPointer
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		pointer = semantic.JSONPointer
	}
	field := "body"
	for name := range pointer.Tokens() {
		if len(name) > 0 && len(name) <= 64 && Printable(name) {
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

// TextOf returns the text of a JSON string; false for any other value.
func TextOf(value jsontext.Value) (string, bool) {
	if value.Kind() != jsontext.KindString {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err == nil
}

// Printable reports whether a text is UTF-8 without control characters.
func Printable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// DecodeBody reads a body strictly into a struct: no unknown or repeated member. The error names the member and the
// rule.
func DecodeBody(body []byte, into any) *FieldError {
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		field := DecodeError(err)
		return &field
	}
	return nil
}

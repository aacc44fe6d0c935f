package api

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

func loadDocument(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI())
	require.NoError(t, err)
	return doc
}

func TestOpenAPIIsValid(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t)
	require.Equal(t, "3.0.3", doc.OpenAPI)
	require.NoError(t, doc.Validate(context.Background()))
}

func TestOpenAPIDescribesEveryCode(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t)
	documented := map[string]bool{}
	for name, response := range doc.Components.Responses {
		schema := response.Value.Content["application/problem+json"].Schema.Value
		for _, part := range schema.AllOf {
			for _, code := range enumOf(part.Value) {
				documented[code] = true
				spec, known := specOf(Code(code))
				require.True(t, known, "%s names the unknown code %s", name, code)
				_, retry := response.Value.Headers["Retry-After"]
				require.Equal(t, spec.retry, retry, "Retry-After of %s in %s", code, name)
			}
		}
	}
	for _, code := range allCodes {
		require.True(t, documented[string(code)], code)
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				content := response.Value.Content["application/problem+json"]
				if content == nil {
					continue
				}
				for _, part := range content.Schema.Value.AllOf {
					for _, code := range enumOf(part.Value) {
						require.Equal(t, status, strconv.Itoa(NewProblem(Code(code), "").Status), "%s %s: %s",
							method, path, code)
					}
				}
			}
		}
	}
}

func enumOf(schema *openapi3.Schema) []string {
	property := schema.Properties["code"]
	if property == nil {
		return nil
	}
	var codes []string
	for _, value := range property.Value.Enum {
		codes = append(codes, value.(string))
	}
	return codes
}

// The document's problem has exactly the members the type has.
func TestOpenAPIProblemMatchesTheType(t *testing.T) {
	t.Parallel()
	var have []string
	kind := reflect.TypeFor[Problem]()
	for i := range kind.NumField() {
		if name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ","); name != "-" {
			have = append(have, name)
		}
	}
	schema := loadDocument(t).Components.Schemas["Problem"].Value
	var want []string
	for name := range schema.Properties {
		want = append(want, name)
	}
	require.ElementsMatch(t, want, have)

	p := InvalidRequest(FieldError{"quantity", "rule"})
	p.OrderID, p.StartsAt = "019de0f2-6e6a-7c3b-8f00-000000000000", "2026-11-11T00:00:00.000Z"
	w := answer(t, p)
	var value any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &value))
	require.NoError(t, schema.VisitJSON(value))
}

func TestOpenAPIListsTheRoutesOfTheContract(t *testing.T) {
	t.Parallel()
	var routes []string
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			routes = append(routes, method+" "+path)
		}
	}
	slices.Sort(routes)
	require.Subset(t, routes, []string{
		"DELETE /v1/sales/{sale}/orders/{id}", "GET /openapi.json", "GET /v1/orders", "GET /v1/sales",
		"GET /v1/sales/{sale}",
		"GET /v1/sales/{sale}/orders/{id}", "GET /v1/sales/{sale}/orders/{id}/events", "POST /v1/sales/{sale}/orders",
	})
}

// What the decoder accepts, the document's schema accepts, and the other way round.
func TestOpenAPIOrderRequestAgreesWithTheDecoder(t *testing.T) {
	t.Parallel()
	schema := loadDocument(t).Components.Schemas["OrderRequest"].Value
	for body, ok := range map[string]bool{
		`{}`: true, `{"quantity":1}`: true, `{"quantity":1000}`: true, `{"phone":"+8613800138000"}`: true,
		`{"email":"a@b.cc"}`: true,
		`{"quantity":0}`:     false, `{"quantity":1001}`: false, `{"quantity":"1"}`: false, `{"quantity":null}`: false,
		`{"phone":"123"}`: false, `{"phone":"+0123456789"}`: false, `{"email":1}`: false, `{"price":1}`: false,
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(body), &value))
		_, errs := DecodeOrder([]byte(body))
		require.Equal(t, ok, len(errs) == 0, body)
		require.Equal(t, ok, schema.VisitJSON(value) == nil, body)
	}
}

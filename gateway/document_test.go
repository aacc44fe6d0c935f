package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit/stack"
)

// Neither listener serves a route that its document does not describe, nor the
// other way round.
func TestDocumentsAndRoutesAreEqual(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	for name, one := range map[string]struct {
		document []byte
		engine   *gin.Engine
	}{"public": {api.OpenAPI(), s.Gateway.Handler()}, "operations": {api.OpenAPIOps(), s.OpsEngine}} {
		var routes, described []string
		for _, r := range one.engine.Routes() {
			parts := strings.Split(r.Path, "/")
			for i, part := range parts {
				if param, ok := strings.CutPrefix(part, ":"); ok {
					parts[i] = "{" + param + "}"
				}
			}
			routes = append(routes, r.Method+" "+strings.Join(parts, "/"))
		}
		doc := stack.StrictDocument(t, one.document)
		ids := map[string]bool{}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				described = append(described, method+" "+path)
				require.False(t, ids[operation.OperationID], "%s: %s twice", name, operation.OperationID)
				ids[operation.OperationID] = true
			}
		}
		require.ElementsMatch(t, described, routes, name)
	}
	public, ops := s.Get("", "/openapi.json"), s.OpsAs("", http.MethodGet, "/openapi.json", "")
	require.JSONEq(t, string(api.OpenAPI()), public.Raw)
	require.JSONEq(t, string(api.OpenAPIOps()), ops.Raw)
}

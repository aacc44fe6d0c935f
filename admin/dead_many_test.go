package admin_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
)

// An empty body is not all of them, and nothing is done before the whole request is right.
func TestManyDeadLettersNeedAChoice(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 3)
	require.NoError(t, s.Redis.LPush(t.Context(), "sluice:{phone/0}:dead", "bogus-1", "bogus-2").Err())
	path := "/admin/v1/sales/phone/dead"
	for body, field := range map[string]string{
		`{}`:                                          "all",
		`{"reason":"mended"}`:                         "all",
		`{"all":true,"user":"ann"}`:                   "all",
		`{"all":true,"limit":0}`:                      "limit",
		`{"all":true,"limit":10001}`:                  "limit",
		`{"all":true,"skip":-1}`:                      "skip",
		`{"all":true,"reason":"two\nlines"}`:          "reason",
		`{"all":true,"since":"yesterday"}`:            "",
		`{"all":true,"everything":true}`:              "",
		`{"user":"` + strings.Repeat("u", 129) + `"}`: "user",
		`{"since":"2026-11-11T00:00:00Z","until":"2026-11-10T00:00:00Z"}`: "until",
	} {
		for _, action := range []string{"/requeue", "/drop"} {
			got := s.Admin(http.MethodPost, path+action, body)
			require.Equal(t, http.StatusBadRequest, got.Status, body)
			if field != "" {
				require.Equal(t, field, got.Body["errors"].([]any)[0].(map[string]any)["field"], body)
			}
		}
	}
	for _, query := range []string{"since=yesterday", "until=1", "user=" + strings.Repeat("u", 129)} {
		require.Equal(t, http.StatusBadRequest, s.Admin(http.MethodGet, path+"?"+query, "").Status, query)
	}
	require.Len(t, s.Admin(http.MethodGet, path, "").Body["dead"], 2, "nothing was done")
	require.Empty(t, s.Admin(http.MethodGet, path+"?until=2026-11-11T00:00:00Z", "").Body["dead"])

	require.Equal(t, http.StatusNotFound, s.Admin(http.MethodPost, "/admin/v1/sales/nosuch/dead/drop",
		`{"all":true}`).Status)
	refused := s.Admin(http.MethodPost, path+"/requeue", `{"all":true,"limit":1,"reason":"mended"}`)
	require.Equal(t, http.StatusOK, refused.Status)
	require.EqualValues(t, 1, refused.Body["refused"])
	require.EqualValues(t, 1, refused.Body["left"])
	require.Equal(t, "conflict", refused.Body["refusals"].([]any)[0].(map[string]any)["code"])
	gone := s.Admin(http.MethodPost, path+"/drop", `{"failed_reason":"unreadable","reason":"no tickets"}`)
	require.EqualValues(t, 2, gone.Body["done"])
	require.Empty(t, s.Admin(http.MethodGet, path, "").Body["dead"])
}

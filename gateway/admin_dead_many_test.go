package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An empty body is not all of them, and nothing is done before the whole request is right.
func TestManyDeadLettersNeedAChoice(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 3)
	require.NoError(t, s.rdb.LPush(t.Context(), "sluice:{phone/0}:dead", "bogus-1", "bogus-2").Err())
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
			got := s.admin(http.MethodPost, path+action, body)
			require.Equal(t, http.StatusBadRequest, got.status, body)
			if field != "" {
				require.Equal(t, field, got.body["errors"].([]any)[0].(map[string]any)["field"], body)
			}
		}
	}
	for _, query := range []string{"since=yesterday", "until=1", "user=" + strings.Repeat("u", 129)} {
		require.Equal(t, http.StatusBadRequest, s.admin(http.MethodGet, path+"?"+query, "").status, query)
	}
	require.Len(t, s.admin(http.MethodGet, path, "").body["dead"], 2, "nothing was done")
	require.Empty(t, s.admin(http.MethodGet, path+"?until=2026-11-11T00:00:00Z", "").body["dead"])

	require.Equal(t, http.StatusNotFound, s.admin(http.MethodPost, "/admin/v1/sales/nosuch/dead/drop",
		`{"all":true}`).status)
	refused := s.admin(http.MethodPost, path+"/requeue", `{"all":true,"limit":1,"reason":"mended"}`)
	require.Equal(t, http.StatusOK, refused.status)
	require.EqualValues(t, 1, refused.body["refused"])
	require.EqualValues(t, 1, refused.body["left"])
	require.Equal(t, "conflict", refused.body["refusals"].([]any)[0].(map[string]any)["code"])
	gone := s.admin(http.MethodPost, path+"/drop", `{"failed_reason":"unreadable","reason":"no tickets"}`)
	require.EqualValues(t, 2, gone.body["done"])
	require.Empty(t, s.admin(http.MethodGet, path, "").body["dead"])
}

package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/fleet"
	"sluice/gateway/ratelimit"
	"sluice/internal/invalid"
	"sluice/internal/testkit/stack"
	"sluice/queue"
	"sluice/settings"
)

// fakeSettings is a Settings in memory that does what it is told.
type fakeSettings struct {
	view    settings.View
	changes []settings.Change
	reverts []int64
	err     error
}

func newSettings() *fakeSettings {
	return &fakeSettings{view: settings.View{File: "abc", Keys: []settings.Setting{
		{Key: "limits.global_rps", Value: 5.0, Source: "file c.yaml", Hot: true},
		{Key: "limits.global_burst", Value: 0, Source: "default", Hot: true},
		{Key: "limits.per_user_rps", Value: 0.0, Source: "default", Hot: true},
		{Key: "limits.per_user_burst", Value: 0, Source: "default", Hot: true},
		{Key: "limits.per_ip_rps", Value: 0.0, Source: "default", Hot: true},
		{Key: "limits.per_ip_burst", Value: 0, Source: "default", Hot: true},
		{Key: "limits.sales", Value: map[string]ratelimit.SaleConfig(nil), Source: "default", Hot: true},
		{Key: "log.level", Value: "info", Source: "default", Hot: true},
		{Key: "http.addr", Value: ":1", Source: "flag"},
		{Key: "gateway.admission", Value: true, Source: "default", Hot: true},
		{Key: "queue.drain", Value: true, Source: "default", Hot: true},
		{Key: "queue.held", Value: []string{"tv"}, Source: "admin", Hot: true},
		{Key: "limits.per_user_reads_rps", Value: 0.0, Source: "default", Hot: true},
		{Key: "limits.per_user_reads_burst", Value: 0, Source: "default", Hot: true}}}}
}

func (s *fakeSettings) Show(context.Context) settings.View { return s.view }

func (s *fakeSettings) Change(_ context.Context, c settings.Change) error {
	if c.By.IfVersion != settings.AnyVersion && c.By.IfVersion != s.view.Version.Version {
		return settings.ErrVersion
	}
	if s.err != nil {
		return s.err
	}
	s.changes = append(s.changes, c)
	s.view.Version = settings.Version{Version: s.view.Version.Version + 1, At: testNow, Actor: c.By.Actor,
		Source: "admin", Reason: c.By.Reason}
	if c.For > 0 {
		for i := range s.view.Keys {
			s.view.Keys[i].Until = testNow.Add(c.For)
		}
	}
	return nil
}

func (s *fakeSettings) Revert(_ context.Context, to int64, prefix string, _ settings.Author) error {
	if to > 5 {
		return settings.ErrNoVersion
	}
	s.reverts = append(s.reverts, to, int64(len(prefix)))
	return nil
}

func (s *fakeSettings) Reload(context.Context, settings.Author) (settings.ReloadResult, error) {
	return settings.ReloadResult{Overridden: []string{"queue.cap"}, NeedsRestart: []string{"http.addr"}}, s.err
}

func (s *fakeSettings) Versions(_ context.Context, before int64, limit int) (list []settings.Version, _ error) {
	for v := int64(30); v > 0 && len(list) < limit; v-- {
		if before == 0 || v < before {
			list = append(list, settings.Version{Version: v, At: testNow, Actor: "ann", Source: "file",
				Values: map[string]any{"pool.size": 3}})
		}
	}
	return list, nil
}

// Every route of the live configuration, over HTTP; the client checks each answer against the document.
func TestSettingsRoutes(t *testing.T) {
	t.Parallel()
	live := newSettings()
	s := newWorld(t, func(c *stack.Setup) { c.Still, c.Settings = true, live })
	s.Sell("phone", 5)
	last := func() settings.Change { return live.changes[len(live.changes)-1] }
	ok := func(method, path, body string) stack.Answer {
		t.Helper()
		g := s.Admin(method, "/admin/v1"+path, body)
		require.Equal(t, http.StatusOK, g.Status, g.Raw)
		return g
	}
	g := ok(http.MethodGet, "/limits", "")
	require.Equal(t, `"0"`, g.Header.Get("ETag"))
	require.Contains(t, g.Raw, `"global_rps":5`)
	require.Contains(t, g.Raw, `"sales":{}`)
	ok(http.MethodGet, "/config", "")
	ok(http.MethodGet, "/log-level", "")
	require.Contains(t, ok(http.MethodGet, "/switches", "").Raw, `"held":["tv"]`)

	// What is set and does not count is said by the answer that is about it.
	live.view.LeftOut = []string{"gateway.admission", "limits.sales", "pool.size"}
	require.Contains(t, ok(http.MethodGet, "/switches", "").Raw, `"left_out":["gateway.admission"]`)
	require.Contains(t, ok(http.MethodGet, "/limits", "").Raw, `"left_out":["limits.sales"]`)
	require.Contains(t, ok(http.MethodGet, "/config", "").Raw,
		`"left_out":["gateway.admission","limits.sales","pool.size"]`)
	live.view.LeftOut = nil

	s.Refused(api.CodeNoCondition, s.Admin(http.MethodPatch, "/admin/v1/limits", `{"limits":{"global_rps":7}}`))
	s.Refused(api.CodeNoCondition, s.Admin(http.MethodPatch, "/admin/v1/config", `{"set":{"pool.size":7}}`))
	require.Empty(t, live.changes)

	ok(http.MethodPut, "/log-level", `{"level":"debug","for":"5m","reason":"why"}`)
	require.Equal(t, settings.Change{Set: map[string]any{"log.level": "debug"}, For: 5 * time.Minute,
		By: settings.Author{Actor: "root", Reason: "why", IfVersion: settings.AnyVersion}}, last())
	require.Contains(t, ok(http.MethodGet, "/limits", "").Raw, `"until":{`)
	ok(http.MethodPut, "/switches/admission", `{"on":false}`)
	require.Equal(t, map[string]any{"gateway.admission": false}, last().Set)
	ok(http.MethodPut, "/switches/drain", `{"on":false}`)
	require.Equal(t, map[string]any{"queue.drain": false}, last().Set)
	ok(http.MethodPut, "/switches/drain", `{"on":false,"sale":"phone"}`)
	require.Equal(t, map[string]any{"queue.held.phone": true}, last().Set, "the others are left alone")
	live.view.Keys[11].UntilSale = map[string]time.Time{"tv": testNow}
	require.Contains(t, ok(http.MethodGet, "/switches", "").Raw, `"held.tv":"`)
	require.Contains(t, ok(http.MethodGet, "/config", "").Raw, `"until_of":{"tv":"`)
	s.Refused(api.CodeNotFound, s.Admin(http.MethodPut, "/admin/v1/switches/drain", `{"on":false,"sale":"nothing"}`))
	config := func(set string) stack.Answer {
		t.Helper()
		return s.Admin(http.MethodPatch, "/admin/v1/config", `{"set":`+set+`}`, "If-Match", "*")
	}
	for _, set := range []string{`{"queue.held.nothing":true}`, `{"limits.sales.nothing":{"global_rps":1}}`,
		`{"queue.held.no such":"true"}`} {
		s.Refused(api.CodeNotFound, config(set))
	}
	for _, set := range []string{`{"queue.held.nothing":false}`, `{"queue.held.nothing":null}`,
		`{"limits.sales.nothing":null,"queue.held.phone":true}`} {
		require.Equal(t, http.StatusOK, config(set).Status, "what is taken away may be anybody's: %s", set)
	}
	for path, body := range map[string]string{"/switches/drain": `{}`,
		"/switches/admission": `{"on":true,"sale":"phone"}`,
		"/log-level":          `{"level":"info","for":"1ms"}`, "/reload": `{"reason":"a\u0001b"}`} {
		method := http.MethodPut
		if path == "/reload" {
			method = http.MethodPost
		}
		s.Refused(api.CodeInvalidRequest, s.Admin(method, "/admin/v1"+path, body))
	}

	ok(http.MethodPost, "/limits/revert", `{"to":2}`)
	ok(http.MethodPost, "/config/revert", `{}`)
	require.Equal(t, []int64{2, int64(len("limits.")), 0, 0}, live.reverts)
	g = s.Admin(http.MethodPost, "/admin/v1/config/revert", `{"to":9}`)
	s.Refused(api.CodeNotFound, g)
	require.Contains(t, g.Raw, settings.ErrNoVersion.Error())
	g = s.Admin(http.MethodPost, "/admin/v1/config/revert", `{"to":-1}`)
	s.Refused(api.CodeInvalidRequest, g)
	require.Contains(t, g.Raw, `"field":"to"`)
	require.Contains(t, ok(http.MethodPost, "/reload", `{"reason":"new"}`).
		Raw, `"overridden":["queue.cap"],"needs_restart":["http.addr"]`)
	live.err = invalid.Error{{Field: "pool.size", Detail: "must be more"}}
	s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodPost, "/admin/v1/reload", ""))
	live.err = invalid.Error{{Field: "log.level", Detail: "must be debug"},
		{Field: "queue.cap", Detail: "must be more"}}
	g = s.Admin(http.MethodPut, "/admin/v1/log-level", `{"level":"loud"}`)
	s.Refused(api.CodeInvalidRequest, g)
	require.Contains(t, g.Raw, `"field":"level"`, "as the body calls it")
	require.Contains(t, g.Raw, `"field":"queue.cap"`)
	live.err = fmt.Errorf("%w: no clock", settings.ErrUnknown)
	s.Refused(api.CodeUnavailable, s.Admin(http.MethodPut, "/admin/v1/log-level", `{"level":"info"}`))
	live.err = errors.New("secret of ours")
	require.NotContains(t, s.Admin(http.MethodPut, "/admin/v1/log-level", `{"level":"info"}`).Raw, "secret")

	var list api.ConfigVersions
	require.NoError(t, json.Unmarshal([]byte(ok(http.MethodGet, "/config/versions?limit=20", "").Raw), &list))
	require.Len(t, list.Versions, 20)
	require.EqualValues(t, 11, list.Next)
	require.NoError(t, json.Unmarshal([]byte(ok(http.MethodGet, "/config/versions?before=11", "").Raw), &list))
	require.EqualValues(t, 10, list.Versions[0].Version)
	s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1/config/versions?before=x", ""))
}

func TestLimitsAreAMergePatch(t *testing.T) {
	t.Parallel()
	live := newSettings()
	s := newWorld(t, func(c *stack.Setup) { c.Still, c.Settings = true, live })
	s.Sell("radio", 5)
	patch := func(match, body string) stack.Answer {
		t.Helper()
		return s.Admin(http.MethodPatch, "/admin/v1/limits", body, "If-Match", match)
	}
	g := patch(`"0"`,
		`{"limits":{"global_rps":9,"per_user_rps":null,"sales":{"tv":null,"radio":{"global_rps":1}}},"for":"1m"}`)
	require.Equal(t, http.StatusOK, g.Status, g.Raw)
	c := live.changes[0]
	require.Equal(t, map[string]any{"limits.global_rps": 9.0, "limits.sales.tv": nil,
		"limits.sales.radio": map[string]any{"global_rps": 1.0}}, c.Set)
	require.Equal(t, []string{"limits.per_user_rps"}, c.Unset)
	require.Equal(t, time.Minute, c.For)
	require.Equal(t, http.StatusPreconditionFailed, patch(`"0"`, `{"limits":{"global_rps":9}}`).Status)
	require.Equal(t, http.StatusOK, patch(`*`, `{"limits":{"global_rps":9}}`).Status)
	require.Equal(t, http.StatusNotFound, patch(`*`, `{"limits":{"sales":{"nothing":{"global_rps":9}}}}`).Status)
	for _, value := range []string{`{"global_rps":9}`, `null`} {
		s.Refused(api.CodeInvalidRequest, patch(`*`, `{"limits":{"sales.radio":`+value+`}}`))
	}
}

func TestInstancesRoute(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	beats := fleet.NewInstances(s.Redis, queue.DefaultPrefix, slog.New(slog.DiscardHandler))
	s.Run(func(ctx context.Context) {
		beats.Run(ctx, func() fleet.Instance {
			return fleet.Instance{ID: "a", Roles: []string{"worker"}, Version: "v1", ConfigVersion: 2, ConfigFile: "f",
				StartedAt: testNow}
		})
	})
	require.Eventually(t, func() bool {
		g := s.Admin(http.MethodGet, "/admin/v1/instances", "")
		list, _ := g.Body["instances"].([]any)
		return g.Status == http.StatusOK && len(list) == 1
	}, stack.Patience, 10*time.Millisecond)
}

package check

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	require.NoError(t, err,
		"install Prometheus: apt-get install --no-install-recommends prometheus, or brew install prometheus")
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = "../prometheus"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestPrometheusRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "rules", "rules.yml")
	promtool(t, "test", "rules", "rules_test.yml")
}

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

// An alert that no test makes ring is an alert nobody has seen ring.
func TestEveryAlertHasATestAndARunbookEntry(t *testing.T) {
	t.Parallel()
	var all rules
	require.NoError(t, yaml.Unmarshal(read(t, "../prometheus/rules.yml"), &all))
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string            `json:"alertname"`
				ExpAlerts []json.RawMessage `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	require.NoError(t, yaml.Unmarshal(read(t, "../prometheus/rules_test.yml"), &tests))
	rings, quiet := map[string]bool{}, map[string]bool{}
	for _, one := range tests.Tests {
		for _, a := range one.AlertRuleTest {
			rings[a.Alertname] = rings[a.Alertname] || len(a.ExpAlerts) > 0
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.ExpAlerts) == 0
		}
	}
	runbook := string(read(t, root+"/docs/operations.md"))
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (Sluice\w+)$`).FindAllStringSubmatch(runbook, -1) {
		headings[m[1]] = true
	}
	for _, group := range all.Groups {
		for _, r := range group.Rules {
			require.True(t, rings[r.Alert], "no test makes %s ring", r.Alert)
			require.True(t, quiet[r.Alert], "no test keeps %s quiet", r.Alert)
			require.True(t, headings[r.Alert], "docs/operations.md has no entry %q", r.Alert)
			require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"])
			require.Regexp(t, `^docs/operations\.md#[a-z]+$`, r.Annotations["runbook"])
			delete(headings, r.Alert)
		}
	}
	require.Empty(t, headings, "entries of alerts that do not exist")
}

// Every dashboard asks the data source that is provisioned, and no two share an id.
func TestGrafanaDashboards(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var sources struct{ Datasources []struct{ UID string } }
	require.NoError(t, yaml.Unmarshal(read(t, "../grafana/provisioning/datasources/prometheus.yml"), &sources))
	seen := map[string]bool{}
	for _, file := range files {
		var d struct {
			UID, Title string
			Panels     []struct {
				ID                int
				Type, Description string
				Targets           []struct {
					Expr       string
					Datasource struct{ UID string }
				}
			}
		}
		require.NoError(t, json.Unmarshal(read(t, file), &d), file)
		require.False(t, seen[d.UID], "%s is not the only one with uid %s", file, d.UID)
		seen[d.UID] = true
		ids := map[int]bool{}
		for _, p := range d.Panels {
			require.False(t, ids[p.ID], "%s has two panels %d", file, p.ID)
			ids[p.ID] = true
			require.True(t, p.Type == "row" || p.Description != "" &&
				len(p.Targets) > 0, "%s: panel %d says nothing", file, p.ID)
			for _, target := range p.Targets {
				require.Equal(t, sources.Datasources[0].UID, target.Datasource.UID)
			}
		}
	}
}

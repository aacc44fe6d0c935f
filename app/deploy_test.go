package app

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// TestMetricsNamedOutsideExist checks that every metric in rules, dashboards and documents is registered.
func TestMetricsNamedOutsideExist(t *testing.T) {
	t.Parallel()
	known := registered(t)
	files, err := filepath.Glob("../deploy/grafana/dashboards/*.json")
	require.NoError(t, err)
	files = append(files, "../deploy/prometheus/rules.yml", "../deploy/prometheus/rules_test.yml",
		"../docs/operations.md")
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		names := metricsIn(string(text))
		require.NotEmpty(t, names, file)
		for _, name := range names {
			require.True(t, known[name], "%s names %s, which the binary does not register", file, name)
		}
	}
}

// TestMetricsOfTheContractExist checks the contract's own list of metrics.
func TestMetricsOfTheContractExist(t *testing.T) {
	t.Parallel()
	known := registered(t)
	for _, name := range strings.Fields(
		`orders_admitted_total orders_rejected_total orders_finished_total queue_depth queue_capacity
		queue_oldest_age_seconds queue_wait_seconds admission_seconds admission_batch_size fulfil_seconds
		fulfil_batch_size
		pool_workers
		stock_available ledger_difference leases_recovered_total dead_letters notifications_total outbox_pending
		config_reload_total redis_durable schema_version build_info`) {
		require.True(t, known["sluice_"+name], name)
	}
}

func TestMetricNamesAreFound(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"go_goroutines", "sluice_a_seconds", "sluice_b_total"},
		metricsIn(
			`rate(sluice_a_seconds_bucket{le="1"}[1m]) / sluice_b_total{x="sluice"} and go_goroutines, sluice_pool_*`))
}

var (
	metricName = regexp.MustCompile(`\b(?:sluice|go|go_sql|process|http_server)_[a-z0-9_]+\b\*?`)
	parts      = regexp.MustCompile(`_(?:bucket|sum|count)$`)
	fqName     = regexp.MustCompile(`fqName: "([^"]+)"`)
)

// metricsIn returns the names of metrics in a text, for a histogram its base name. It skips families written with a
// star.
func metricsIn(text string) []string {
	var names []string
	for _, name := range metricName.FindAllString(text, -1) {
		if !strings.HasSuffix(name, "*") && !strings.HasSuffix(name, "_") {
			names = append(names, parts.ReplaceAllString(name, ""))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// registered returns the metrics of a running process: those it describes, and those of a scrape while it sells.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Payment.Secret = []string{shop.HookSecret} // without it payments have no metrics
	openSale(t, inventory.NewSale{ID: "scraped", Stock: 5}, startApp(t, cfg, Roles{Gateway: true}))
	cfg.Work.Addr = "127.0.0.1:0"
	app := startApp(t, cfg, AllRoles()) // its first audit finds the sale
	names := map[string]bool{}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		app.opt.Registry.Describe(descriptions)
		close(descriptions)
	}()
	for d := range descriptions {
		names[fqName.FindStringSubmatch(d.String())[1]] = true
	}
	require.Eventually(t, func() bool {
		for line := range strings.Lines(scrape(t, app)) {
			if help, ok := strings.CutPrefix(line, "# HELP "); ok {
				names[strings.Fields(help)[0]] = true
			}
		}
		return names["sluice_ledger_difference"] && names["sluice_queue_depth"] // they appear a moment after the start
	}, 20*time.Second, 20*time.Millisecond)
	return names
}

func scrape(t *testing.T, app *App) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+app.OpsAddr()+"/metrics", nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

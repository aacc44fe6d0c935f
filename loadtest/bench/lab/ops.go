package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// callers keeps a connection for each reader.
var callers = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// Sale is the sale of a measurement.
type Sale struct {
	ID    string
	Stock int
	Cap   int
}

// Admin calls the operations listener as an administrator.
func (n *Node) Admin(ctx context.Context, method, path string, body, into any) error {
	return call(ctx, request{method, "http://" + n.Ops + "/admin/v1" + path, token("bench", "admin", time.Now()),
		body}, into)
}

// Ask calls the listener for other systems, as one that may do everything there with topic bench and its readers.
func (n *Node) Ask(ctx context.Context, path string, body, into any) error {
	return call(ctx, request{"POST", "http://" + n.Work + "/work/v1" + path, workToken(time.Now()), body}, into)
}

// request is a call with a body, which is sent as JSON.
type request struct {
	method, url, token string
	body               any // nil: none
}

func call(ctx context.Context, r request, into any) error {
	var sent bytes.Buffer
	if r.body != nil {
		if err := json.NewEncoder(&sent).Encode(r.body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, &sent)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := callers.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s answered %d: %s", r.method, req.URL.Path, resp.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// Open creates and opens a sale.
func (n *Node) Open(ctx context.Context, s Sale) error {
	return n.Admin(ctx, "POST", "/sales", map[string]any{"id": s.ID, "title": "Benchmark", "sku": "BENCH",
		"stock":       s.Stock,
		"price_cents": 9900, "cap": s.Cap, "open": true}, nil)
}

// Metrics are the counters of one process, by name with labels as Prometheus writes them.
type Metrics map[string]float64

// Metrics reads the counters of the process.
func (n *Node) Metrics(ctx context.Context) (Metrics, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.Ops+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(text)), nil
}

func parseMetrics(text string) Metrics {
	m := Metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if value, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = value
		}
	}
	return m
}

// Sum returns the sum of the series of a name whose labels contain all the given texts, such as code="202".
func (m Metrics) Sum(name string, labels ...string) float64 {
	var sum float64
	for series, value := range m {
		found, text, _ := strings.Cut(series, "{")
		if found != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(text, label) {
				value = 0
			}
		}
		sum += value
	}
	return sum
}

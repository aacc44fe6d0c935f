package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	watchEvery = 500 * time.Millisecond
	maxSamples = 10_000 // some 80 minutes
	maxMetrics = 8 << 20
)

// sample is the metrics at one moment; counts are totals since the start of the process.
type sample struct {
	at                          time.Time
	admitted, refused, finished float64
	depth                       float64
}

// watcher samples the metrics of the system during a scenario.
type watcher struct {
	cancel context.CancelFunc
	done   chan []sample
}

func watch(ctx context.Context, url string) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, done: make(chan []sample, 1)}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	go func() {
		defer client.CloseIdleConnections()
		var all []sample
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for len(all) < maxSamples {
			if one, err := scrape(ctx, client, url); err == nil { // a missed sample is a gap in a plot
				all = append(all, one)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				w.done <- all
				return
			}
		}
		w.done <- all
	}()
	return w
}

// stop ends the sampling and returns the samples.
func (w *watcher) stop() []sample {
	w.cancel()
	return <-w.done
}

func scrape(ctx context.Context, client *http.Client, url string) (sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return sample{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return sample{}, err
	}
	defer resp.Body.Close()
	return readMetrics(io.LimitReader(resp.Body, maxMetrics), time.Now())
}

// readMetrics parses the needed part of Prometheus' text format and sums over all sales.
func readMetrics(text io.Reader, at time.Time) (sample, error) {
	one := sample{at: at}
	sums := map[string]*float64{
		"sluice_orders_admitted_total": &one.admitted,
		"sluice_orders_rejected_total": &one.refused,
		"sluice_orders_finished_total": &one.finished,
		"sluice_queue_depth":           &one.depth,
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), "{")
		sum, wanted := sums[name]
		if !wanted {
			continue
		}
		fields := strings.Fields(lines.Text())
		if value, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			*sum += value
		}
	}
	return one, lines.Err()
}

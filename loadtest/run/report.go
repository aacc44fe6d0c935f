package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed report.html
var reportPage string

// chapter is one scenario in the report.
type chapter struct {
	Name   string
	Facts  string
	Broken []string
	Plots  []template.HTML
}

// writeReport writes one HTML file that needs no other file, script or internet.
func (v *verdict) writeReport() error {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return err
	}
	file, err := os.Create(v.report)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	chapters := make([]chapter, len(v.results))
	for i, r := range v.results {
		chapters[i] = chapter{r.Scenario, r.facts(), r.Broken, r.plots()}
	}
	rows := []map[string]any{}
	for _, r := range v.rows() {
		rows = append(rows, map[string]any{"Name": r.name, "Cells": r.cells})
	}
	err = page.Execute(file, map[string]any{"Began": v.began.UTC().Format("2006-01-02 15:04 UTC"),
		"Machine": v.machine, "Passed": v.passed(),
		"Broken": v.allBroken(), "Audit": v.auditLine(), "Names": v.names(), "Rows": rows, "Chapters": chapters})
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("write the report %s: %w", v.report, err)
	}
	return nil
}

func (r result) facts() string {
	parts := []string{fmt.Sprintf("%.1f s", r.Seconds), fmt.Sprintf("%d requests", r.Requests)}
	for _, name := range keysOf([]result{r}, func(r result) map[string]any { return r.Facts }) {
		parts = append(parts, fmt.Sprintf("%s: %v", name, r.Facts[name]))
	}
	return strings.Join(parts, " · ")
}

// plots returns charts of the events per second, the depth of the line and the latencies.
func (r result) plots() []template.HTML {
	var all []template.HTML
	if len(r.samples) > 2 {
		rates := []series{
			{"admitted", perSecond(r.samples, func(s sample) float64 { return s.admitted })},
			{"refused", perSecond(r.samples, func(s sample) float64 { return s.refused })},
			{"fulfilled", perSecond(r.samples, func(s sample) float64 { return s.finished })},
		}
		depth := make([]point, len(r.samples))
		for i, s := range r.samples {
			depth[i] = point{s.at.Sub(r.samples[0].at).Seconds(), s.depth}
		}
		all = append(all, chart{title: "Orders a second", x: "seconds", series: rates}.svg(),
			chart{title: "Orders waiting in line", x: "seconds", series: []series{{"depth", depth}}}.svg())
	}
	if latency := r.percentiles(); len(latency) > 0 {
		all = append(all, chart{title: "Milliseconds by percentile", x: "percentile", names: percentileNames(),
			logarithmic: true, series: latency}.svg())
	}
	return all
}

// perSecond turns totals into rates, smoothed over two samples.
func perSecond(samples []sample, total func(sample) float64) []point {
	var all []point
	for i := 2; i < len(samples); i++ {
		passed := samples[i].at.Sub(samples[i-2].at)
		if passed < time.Millisecond {
			continue
		}
		rate := (total(samples[i]) - total(samples[i-2])) / passed.Seconds()
		all = append(all, point{samples[i].at.Sub(samples[0].at).Seconds(), max(rate, 0)})
	}
	return all
}

func percentileNames() []string { return []string{"med", "p(90)", "p(95)", "p(99)", "p(99.9)", "max"} }

// percentiles returns a curve for each outcome.
func (r result) percentiles() []series {
	curves := map[string]trend{"confirmed": r.Confirmed}
	for outcome, t := range r.Latency {
		curves["answer "+outcome] = t
	}
	var all []series
	for name, t := range curves {
		if len(t) == 0 {
			continue
		}
		one := series{name: name}
		for i, p := range percentileNames() {
			one.points = append(one.points, point{float64(i), t[p]})
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b series) int { return strings.Compare(a.name, b.name) })
	return all
}

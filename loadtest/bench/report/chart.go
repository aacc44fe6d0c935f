package report

import (
	"fmt"
	"html"
	"strings"
)

const (
	chartWidth  = 1180
	chartLeft   = 660 // of the bars
	chartRow    = 30
	chartTop    = 56
	chartScale  = 1.5 // times the target is the right edge
	chartBottom = 34
)

// chart returns an SVG with one bar for each row that has a target. A bar's length is the median divided by the target,
// or the inverse if less is better. All targets are at one line.
func chart(r Result) string {
	var rows []Row
	for _, row := range r.Rows {
		if row.Reached != nil {
			rows = append(rows, row)
		}
	}
	height := chartTop + chartRow*len(rows) + chartBottom
	var b strings.Builder
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n",
		chartWidth, height)
	fmt.Fprintf(&b,
		`<rect width="100%%" height="100%%" fill="#ffffff"/>`+
			`<text x="12" y="24" font-size="16">Sluice against its targets, commit %s</text>`+"\n",
		html.EscapeString(r.Commit))
	for i, row := range rows {
		bar(&b, row, chartTop+chartRow*i)
	}
	x := chartX(1)
	fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#333333" stroke-dasharray="4 3"/>`+"\n", x,
		chartTop-8, x, height-chartBottom)
	fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">target</text>`+"\n</svg>\n", x, height-14)
	return b.String()
}

func bar(b *strings.Builder, row Row, y int) {
	color := "#2e7d32"
	if !*row.Reached {
		color = "#c62828"
	}
	end := chartX(min(progress(row, row.Judged.Median), chartScale))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, chartLeft-10, y+15, html.EscapeString(row.Title))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="20" fill="%s"/>`, chartLeft, y, end-chartLeft, color)
	low, high := chartX(min(progress(row, row.Judged.Min), chartScale)), chartX(min(progress(row, row.Judged.Max),
		chartScale))
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#111111" stroke-width="2"/>`, low, y+10, high,
		y+10)
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s (%s)</text>`+"\n", max(end, low, high)+6, y+15,
		html.EscapeString(row.judged()), html.EscapeString(row.target()))
}

// progress returns how far a value is towards the target: 1 at the target.
func progress(row Row, value float64) float64 {
	switch {
	case row.AtLeast > 0:
		return value / row.AtLeast
	case value > 0:
		return row.AtMost / value
	}
	return chartScale
}

func chartX(progress float64) float64 {
	return chartLeft + progress/chartScale*(chartWidth-chartLeft-190)
}

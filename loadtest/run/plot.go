package main

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

type point struct{ x, y float64 }

// series is one line of a chart.
type series struct {
	name   string
	points []point
}

// chart draws lines as SVG; its colours come from the page's style.
type chart struct {
	title, x    string
	names       []string // of x = 0, 1, 2 …; without them x is a number
	logarithmic bool     // y
	series      []series
}

// The size of the drawing and the margins for the axes.
const (
	plotWidth, plotHeight = 640.0, 260.0
	left, right           = 56.0, 12.0
	top, bottom           = 44.0, 34.0
	yTicks, xTicks        = 4, 6
)

func (c chart) svg() template.HTML {
	maxX, maxY := c.extent()
	px := func(x float64) float64 { return left + x/maxX*(plotWidth-left-right) }
	py := func(y float64) float64 { return plotHeight - bottom - c.scale(y)/c.scale(maxY)*(plotHeight-top-bottom) }
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %g %g" role="img"><title>%s</title>`, plotWidth, plotHeight,
		html.EscapeString(c.title))
	fmt.Fprintf(&s, `<text class="title" x="%g" y="16">%s</text>`, left, html.EscapeString(c.title))
	for _, y := range c.yMarks(maxY) {
		fmt.Fprintf(&s,
			`<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick end" x="%g" y="%.1f">%s</text>`,
			left, plotWidth-right, py(y), py(y), left-6, py(y)+4, tick(y))
	}
	for i := range c.xMarks() {
		at, text := c.xMark(i, maxX)
		fmt.Fprintf(&s, `<text class="tick mid" x="%.1f" y="%g">%s</text>`, px(at), plotHeight-bottom+16,
			html.EscapeString(text))
	}
	fmt.Fprintf(&s, `<text class="tick end" x="%g" y="%g">%s</text>`, plotWidth-right, plotHeight-4,
		html.EscapeString(c.x))
	legend := left
	for i, one := range c.series {
		var path strings.Builder
		for _, p := range one.points {
			fmt.Fprintf(&path, "%.1f,%.1f ", px(p.x), py(p.y))
		}
		fmt.Fprintf(&s, `<polyline class="s%d" points="%s"/>`, i%8, strings.TrimSpace(path.String()))
		fmt.Fprintf(&s, `<text class="legend t%d" x="%.0f" y="34">%s</text>`, i%8, legend, html.EscapeString(one.name))
		legend += 7*float64(len(one.name)) + 18
	}
	s.WriteString(`</svg>`)
	return template.HTML(s.String()) // #nosec G203 -- every name in it was escaped above
}

// extent returns the largest x and y, never 0.
func (c chart) extent() (maxX, maxY float64) {
	maxX, maxY = 1, 1
	if len(c.names) > 1 {
		maxX = float64(len(c.names) - 1)
	}
	for _, one := range c.series {
		for _, p := range one.points {
			maxX, maxY = max(maxX, p.x), max(maxY, p.y)
		}
	}
	if c.logarithmic {
		return maxX, math.Pow(10, math.Ceil(math.Log10(maxY)))
	}
	return maxX, roundUp(maxY)
}

// scale returns the height of a value. Logarithmic scales start at 0.1.
func (c chart) scale(y float64) float64 {
	if !c.logarithmic {
		return y
	}
	return math.Log10(max(y, 0.1)) + 1
}

func (c chart) yMarks(maxY float64) []float64 {
	var marks []float64
	if c.logarithmic {
		for y := 0.1; y <= maxY*1.01; y *= 10 {
			marks = append(marks, y)
		}
		return marks
	}
	for i := range yTicks + 1 {
		marks = append(marks, maxY*float64(i)/yTicks)
	}
	return marks
}

func (c chart) xMarks() int {
	if len(c.names) > 0 {
		return len(c.names)
	}
	return xTicks + 1
}

func (c chart) xMark(i int, maxX float64) (at float64, text string) {
	if len(c.names) > 0 {
		return float64(i), c.names[i]
	}
	at = maxX * float64(i) / xTicks
	return at, tick(at)
}

// roundUp returns the next of 1, 2, 4, 5, 8, 10, 20, 40 …
func roundUp(v float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 5, 8} {
		if v <= step*base {
			return step * base
		}
	}
	return 10 * base
}

func tick(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%g", math.Round(v*10)/10)
}

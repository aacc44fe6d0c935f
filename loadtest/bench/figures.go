package main

// figures is the table, in its order. A new row is a Figure here and a file that opens its Trial.
func figures() []Figure {
	return []Figure{
		{Name: "admission-256", Title: "admitted orders/s, 256 connections", Against: "bare Gin handler, JSON of the same sizes",
			Unit: "1/s", Target: Target{AtLeast: 0.75}, Open: admission(256)},
		{Name: "admission-64", Title: "admitted orders/s, 64 connections", Against: "bare Gin handler, JSON of the same sizes",
			Unit: "1/s", Target: Target{AtLeast: 0.65}, Open: admission(64)},
		{Name: "lone", Title: "median latency of a lone order", Against: "Gin handler with one Lua call",
			Unit: "µs", Target: Target{AtMost: 1.2}, Open: loneLatency},
		{Name: "refused", Title: "refused orders/s, lower of sold out and full", Against: "Gin handler with a static refusal",
			Unit: "1/s", Target: Target{AtLeast: 0.90}, Open: refused},
		{Name: "polls", Title: "status polls/s of waiting orders", Against: "bare Gin handler, JSON of the same sizes",
			Unit: "1/s", Target: Target{AtLeast: 0.70}, Open: polls},
	}
}

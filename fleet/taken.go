package fleet

import (
	"slices"

	"sluice/internal/pattern"
)

// The kinds of what processes take.
const (
	TakenSale  = "sale"  // by workers
	TakenTopic = "topic" // by notifiers
)

// Taken says which processes take a sale or a topic.
type Taken struct {
	Kind, Name string
	By         []string // their ids, sorted; none: it waits
}

// TakenBy says of each sale which of the running workers take it, and of each topic which notifiers do.
func TakenBy(running []Instance, sales, topics []string) []Taken {
	list := make([]Taken, 0, len(sales)+len(topics))
	for _, name := range sales {
		list = append(list, Taken{TakenSale, name, takers(running, "worker", name,
			func(i Instance) []string { return i.Sales })})
	}
	for _, name := range topics {
		list = append(list, Taken{TakenTopic, name, takers(running, "notifier", name,
			func(i Instance) []string { return i.Topics })})
	}
	return list
}

func takers(running []Instance, role, name string, of func(Instance) []string) (ids []string) {
	for _, one := range running {
		if slices.Contains(one.Roles, role) && pattern.Match(of(one), name) {
			ids = append(ids, one.ID)
		}
	}
	return ids
}

package api

// Subscription is a subscription as operators see it; its secret is shown once, in the answer to its creation.
type Subscription struct {
	Name        string       `json:"name"`
	Topic       string       `json:"topic"`
	Kind        string       `json:"kind"`
	URL         string       `json:"url,omitempty"`
	Method      string       `json:"method,omitempty"`
	TimeoutMS   int64        `json:"timeout_ms,omitempty"` // push
	LeaseMS     int64        `json:"lease_ms,omitempty"`   // pull
	Retries     int          `json:"retries"`
	RetryUnitMS int64        `json:"retry_unit_ms"`
	Alert       string       `json:"alert"`
	Owner       string       `json:"owner"`
	Enabled     bool         `json:"enabled"`
	Events      []string     `json:"events"` // the only ones it takes; none: all
	Sales       []string     `json:"sales"`  // patterns of the only ones it takes; none: all
	CreatedAt   string       `json:"created_at"`
	UpdatedAt   string       `json:"updated_at"`
	Secret      string       `json:"secret,omitempty"`
	Messages    *TopicCounts `json:"messages,omitempty"`
	Missed      int64        `json:"missed"`           // messages it had no room for
	Unread      string       `json:"unread,omitempty"` // why its messages could not be counted
}

// SubscriptionList is all subscriptions, or those of a topic.
type SubscriptionList struct {
	Subscriptions []Subscription `json:"subscriptions"`
}

package message

import "sluice/delay"

// keys names what one subscription has in Redis. The names share one hash tag with their topic. So each of its
// scripts runs in one slot of a cluster.
type keys struct {
	due      string // sorted set: id → when to fire next in ms: pending and retrying messages
	firing   string // sorted set: id → when its lease ends in ms
	messages string // hash: id → record
	about    string // hash: id → event and sale of unfinished messages that have one of them
	tries    string // hash: id → attempts, lease token and last error of messages that are firing, retrying or dead
	dead     string // sorted set: id → when it died in ms
	done     string // list of finished ids whose records are kept, newest first
	missed   string // how many messages it had no room for
	warned   string // present for a while after operators were told that it is filling up
	told     string // how many of the missed messages they were told of
	paused   string // present while a deliverer leaves the receiver alone: until when in ms, a tab, and why
}

func subscriptionKeys(prefix string, sub delay.Subscription) keys {
	prefix += ":delay:{" + sub.Topic + "}:"
	if !sub.IsDefault() {
		prefix += "s:" + sub.Name + ":"
	}
	return keys{due: prefix + "due", firing: prefix + "firing", messages: prefix + "messages", about: prefix + "about",
		tries: prefix + "tries", dead: prefix + "dead", done: prefix + "done", missed: prefix + "missed",
		warned: prefix + "warned", told: prefix + "told",
		paused: prefix + "paused"}
}

// topicKeys names what a topic has in Redis beside its subscriptions.
type topicKeys struct {
	gone    string // present for a while after the topic was deleted: no messages are added
	version string // of the topic: who knows an older one adds and claims nothing
	waited  string // counts writes that replicas were waited for
	added   string // how many messages it has taken, ever
}

func keysOfTopic(prefix, topic string) topicKeys {
	prefix += ":delay:{" + topic + "}:"
	return topicKeys{gone: prefix + "gone", version: prefix + "version", waited: prefix + "waited",
		added: prefix + "added"}
}

package delay

// keys are the names of one topic in Redis. They share one hash tag, so every script of the topic runs in one slot of a cluster.
type keys struct {
	due      string // sorted set: id → when to fire next in ms: pending and retrying messages
	firing   string // sorted set: id → when its lease ends in ms
	messages string // hash: id → record
	tries    string // hash: id → attempts, lease token and last error of what is firing, retrying or dead
	dead     string // sorted set: id → when it died in ms
	done     string // list of finished ids whose records are kept, newest first
	gone     string // present for a while after the topic was deleted: it takes no messages
}

func topicKeys(prefix, topic string) keys {
	prefix += ":delay:{" + topic + "}:"
	return keys{due: prefix + "due", firing: prefix + "firing", messages: prefix + "messages", tries: prefix + "tries",
		dead: prefix + "dead", done: prefix + "done", gone: prefix + "gone"}
}

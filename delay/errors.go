package delay

import (
	"errors"
)

// What topics and messages are refused for. None has changed anything.
var (
	ErrNoTopic     = errors.New("no such topic")
	ErrTopicExists = errors.New("a topic with this name exists already")
	ErrManyTopics  = errors.New("there are as many topics as delay.max_topics allows")
	ErrTopicInUse  = errors.New("the topic has unfinished messages: cancel, deliver or drop them first")
	ErrNoMessage   = errors.New("no such message: it never was, or was finished too long ago to be remembered")
	ErrConflict    = errors.New("the message is known with another body or time")
	ErrFull        = errors.New("the topic holds as many unfinished messages as delay.max_messages allows")
	ErrNotWaiting  = errors.New("only a message that waits can be cancelled")
	ErrNotDead     = errors.New("the message is not a dead letter")
)

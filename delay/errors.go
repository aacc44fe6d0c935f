package delay

import (
	"errors"
	"fmt"
)

// The reasons for which topics and messages are refused. A refusal changes nothing.
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

	ErrNoSubscription     = errors.New("no such subscription")
	ErrSubscriptionExists = errors.New("a subscription with this name exists already")
	ErrManySubscriptions  = errors.New("the topic has as many subscriptions as delay.max_subscriptions allows")
	ErrSubscriptionInUse  = errors.New("the subscription has unfinished messages: finish them, or give them up with it")
	ErrSubscribed         = errors.New("the topic has subscriptions: delete them first")
	ErrUnsubscribed       = errors.New("the topic has no subscription: nobody would get the message")
	ErrNotPull            = errors.New("the subscription calls its receiver: nobody can ask it for messages")
	ErrChannelTopic       = errors.New("the topic belongs to a channel: it has one subscription, no URL, and stays")
	ErrChannelOff         = errors.New("its channel is off: enable it (notify.sms, notify.email) to send messages")
	ErrBehind             = errors.New("the database does not yet show what was changed of the topic")
)

// The reasons for which a store is not asked, or not believed.
var (
	ErrNoStore       = errors.New("the configuration of this process does not name it under delay.stores")
	ErrStoreDown     = errors.New("it does not answer")
	ErrNotReplicated = errors.New("too few replicas have it: it may be lost with its Redis")
)

// StoreError says what is wrong with a store of messages. Topics of other stores go on.
type StoreError struct {
	Store string
	Err   error
}

// Error names the store.
func (e StoreError) Error() string {
	return fmt.Sprintf("store %s of delayed messages: %s", e.Store, e.Err)
}

// Unwrap returns what is wrong.
func (e StoreError) Unwrap() error { return e.Err }

// StaleError says that a caller does not know the newest version of a topic.
type StaleError struct {
	Version int64
	Known   bool // Redis has a version
}

// Error returns that the topic was changed.
func (e StaleError) Error() string { return "the topic was changed" }

// Package delay keeps messages until they are due and then calls the shop's other systems with them: topics in the database say
// where and how, messages wait in Redis, and a firer delivers each at least once over HTTP, with a signed body and an id that
// is the same in every repeat. What cannot be delivered becomes a dead letter; nothing is dropped but by an operator.
package delay

package main

import (
	"context"
	"errors"
)

// mostDifference between the sizes of what the two sides answer.
const mostDifference = 0.10

// comparable refuses a yardstick whose answer is not what Sluice answers to the same order: same status, same size.
func (l *Lab) comparable(ctx context.Context, rival string, requests Requests) error {
	s, err := l.gateway(ctx, benchSale)
	if err != nil {
		return err
	}
	request, err := requests.At(0)
	if err != nil {
		return errors.Join(err, s.close())
	}
	ours, err := ask(ctx, s.nodes[0].HTTP, request)
	return errors.Join(err, sameAnswer(ctx, rival, request, ours), s.close())
}

// sameAnswer asks the yardstick the same and compares.
func sameAnswer(ctx context.Context, rival string, request []byte, ours Answer) error {
	theirs, err := ask(ctx, rival, request)
	if err != nil {
		return err
	}
	difference := float64(len(theirs.Body)-len(ours.Body)) / float64(len(ours.Body))
	if theirs.Status != ours.Status || difference > mostDifference || difference < -mostDifference {
		return refuse("the yardstick answers %d with %d bytes, Sluice %d with %d: they do not compare\n%s\n%s",
			theirs.Status, len(theirs.Body), ours.Status, len(ours.Body), theirs.Body, ours.Body)
	}
	return nil
}

package figures

import (
	"context"
	"errors"

	"sluice/loadtest/bench/lab"
)

// mostDifference between the sizes of what the two sides answer.
const mostDifference = 0.10

// checkComparable refuses a yardstick whose answer differs from Sluice's answer to the same order in status or size.
func checkComparable(ctx context.Context, l *lab.Lab, rival string, requests lab.Requests) error {
	s, err := startGateway(ctx, l, benchSale)
	if err != nil {
		return err
	}
	request, err := requests.At(0)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	ours, err := lab.Ask(ctx, s.Nodes[0].HTTP, request)
	return errors.Join(err, sameAnswer(ctx, rival, request, ours), s.Close())
}

// sameAnswer sends the yardstick the same request and compares the answers.
func sameAnswer(ctx context.Context, rival string, request []byte, ours lab.Answer) error {
	theirs, err := lab.Ask(ctx, rival, request)
	if err != nil {
		return err
	}
	difference := float64(len(theirs.Body)-len(ours.Body)) / float64(len(ours.Body))
	if theirs.Status != ours.Status || difference > mostDifference || difference < -mostDifference {
		return lab.Refuse("the yardstick answers %d with %d bytes, Sluice %d with %d: they do not compare\n%s\n%s",
			theirs.Status, len(theirs.Body), ours.Status, len(ours.Body), theirs.Body, ours.Body)
	}
	return nil
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/api"
	"sluice/cli/opsclient"
	"sluice/internal/killpoint"
)

// pumpFlags say what to ship, and where to.
type pumpFlags struct {
	out   string
	work  string
	batch int
	once  bool
}

func newPumpCommand(c *cli) *cobra.Command {
	var f pumpFlags
	cmd := &cobra.Command{
		Use:   "pump SUBSCRIPTION",
		Short: "Write the messages of a pull subscription as NDJSON, and acknowledge what is written",
		Long: "pump receives messages from the work listener and appends each as one line of JSON, a CloudEvent,\n" +
			"to a file or to standard output. Messages are acknowledged when their lines are on the disk, or\n" +
			"in the pipe: none is lost, and one may come twice, with the same source and id. The subscription\n" +
			"keeps the place, so that another pump goes on. An interrupt or SIGTERM ends it with exit code 0.\n" +
			"The token of SLUICE_TOKEN must name the subscription (sluice token --subscribe); without it,\n" +
			"auth.secret signs one.",
		Example: "  sluice subscription pump --out /var/lib/sluice/orders.ndjson orders-log\n" +
			"  sluice subscription pump --out - orders-log | kcat -P -b kafka:9092 -t orders",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args[0]); err != nil {
				return err
			}
			return c.pump(cmd.Context(), args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.out, "out", "", "the `file` to append to, or - for standard output (required)")
	cmd.Flags().StringVar(&f.work, "work", "", "`URL` of the work listener (default: work.addr of the configuration)")
	cmd.Flags().IntVar(&f.batch, "batch", 100, "most messages that are written and acknowledged at once")
	cmd.Flags().BoolVar(&f.once, "once", false, "end when no message is due")
	needFlags(cmd, "out")
	return cmd
}

func (f pumpFlags) check(name string) error {
	if f.batch < 1 || f.batch > 1000 {
		return badUsage("--batch must be between 1 and 1000, got %d", f.batch)
	}
	if f.out == "" {
		return badUsage("--out wants a file, or - for standard output")
	}
	return checkSubscription(name)
}

// pump ships a subscription until ctx ends.
func (c *cli) pump(ctx context.Context, name string, f pumpFlags) (err error) {
	client, err := c.workClient(name, f.work)
	if err != nil {
		return err
	}
	defer client.Close()
	p := pump{cli: c, work: client, path: "/subscriptions/" + name, flags: f, pause: tailPause}
	p.out = &lineFile{path: f.out}
	if f.out == "-" {
		p.out, p.piped = linePipe{c.out}, true
	}
	defer func() { err = errors.Join(err, p.out.close()) }()
	return wrapError("subscription "+name, p.run(ctx))
}

// lineSink takes whole lines. What write has returned for is not lost.
type lineSink interface {
	write(lines []byte) error
	close() error
}

// pump is the reader of one subscription.
type pump struct {
	cli   *cli
	work  *opsclient.Client
	path  string // of the subscription
	flags pumpFlags
	out   lineSink
	piped bool // out is standard output
	heard bool // the listener has answered
	pause time.Duration
}

// run ships batch after batch until ctx ends, which is its good end. A first request that fails is an error; later ones
// are tried again, unless the listener refuses them for good.
func (p *pump) run(ctx context.Context) error {
	for ctx.Err() == nil {
		got, err := p.receive(ctx)
		switch {
		case ctx.Err() != nil && len(got) == 0:
			return nil
		case err != nil && (!p.heard || refusedForGood(err)):
			return err
		case err != nil:
			p.rest(ctx, err)
			continue
		}
		p.heard, p.pause = true, tailPause
		if len(got) == 0 && p.flags.once {
			return nil
		}
		if len(got) > 0 {
			if err := p.ship(ctx, got); err != nil {
				return err
			}
		}
	}
	return nil
}

// pumpWait is for how long one request waits for the first message. It is shorter than the client's patience.
const pumpWait = "20s"

func (p *pump) receive(ctx context.Context) ([]api.ReceivedMessage, error) {
	wait := pumpWait
	if p.flags.once {
		wait = "0s"
	}
	text, err := p.work.Send(ctx, opsclient.Request{Method: http.MethodPost, Path: p.path + "/receive",
		Body: api.Receive{Max: &p.flags.batch, Wait: &wait}})
	if err != nil {
		return nil, err
	}
	var got api.ReceivedMessages
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, p.work.Wrap(fmt.Errorf("the messages are not readable: %w", err))
	}
	return got.Messages, nil
}

// ship writes messages and acknowledges them, also after ctx has ended. While a file cannot be written it holds them:
// none loses an attempt by a full disk.
func (p *pump) ship(ctx context.Context, got []api.ReceivedMessage) error {
	lines, err := ndjson(got)
	if err != nil {
		return err
	}
	killpoint.Pass("pump.received")
	for err := p.out.write(lines); err != nil; err = p.out.write(lines) {
		if p.piped || ctx.Err() != nil {
			return err
		}
		p.hold(ctx, got)
		p.rest(ctx, err)
	}
	p.pause = tailPause
	killpoint.Pass("pump.written")
	return p.acknowledge(ctx, got)
}

const (
	pumpAck = 10 * time.Second // of acknowledging what is written when the pump is to end
	// pumpHold is how long messages are held whose lines cannot be written, longer than the longest pause by far.
	pumpHold = 2 * time.Minute
)

// acknowledge ends messages. Those that are another reader's by now come twice. While the listener does not answer it
// is asked again; when ctx has ended, for a while only.
func (p *pump) acknowledge(ctx context.Context, got []api.ReceivedMessage) error {
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), pumpAck)
		_, err := p.work.Send(call, opsclient.Request{Method: http.MethodPost, Path: p.path + "/ack",
			Body: api.Leases{Leases: leasesOf(got)}})
		cancel()
		if err == nil {
			killpoint.Pass("pump.acked")
			p.pause = tailPause
			return nil
		}
		if ctx.Err() != nil || refusedForGood(err) {
			return fmt.Errorf("%d messages are written and come again: %w", len(got), err)
		}
		p.rest(ctx, err)
	}
}

// hold makes leases last. Where that fails, a message comes again.
func (p *pump) hold(ctx context.Context, got []api.ReceivedMessage) {
	_, err := p.work.Send(ctx, opsclient.Request{Method: http.MethodPost, Path: p.path + "/extend",
		Body: api.LeasesExtended{Leases: leasesOf(got), LeaseMS: pumpHold.Milliseconds()}})
	if err != nil && ctx.Err() == nil {
		p.say(err)
	}
}

func leasesOf(got []api.ReceivedMessage) []string {
	leases := make([]string, len(got))
	for i, m := range got {
		leases[i] = m.Lease
	}
	return leases
}

// rest says once why the pump stands, and waits, longer each time.
func (p *pump) rest(ctx context.Context, why error) {
	if p.pause == tailPause {
		p.say(why)
	}
	select {
	case <-time.After(p.pause):
	case <-ctx.Done():
	}
	p.pause = min(2*p.pause, tailPauseMost)
}

func (p *pump) say(why error) {
	fmt.Fprintf(p.cli.err, "%s %s: trying again\n", p.cli.now().Format(time.RFC3339),
		strings.ReplaceAll(why.Error(), "\n", "; "))
}

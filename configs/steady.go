package configs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

const (
	// steadyFor is how far apart the two looks are that must agree when somebody waits for a file to be read.
	steadyFor = 100 * time.Millisecond
	// steadyWithin is how long a file may go on changing meanwhile.
	steadyWithin = 5 * time.Second
)

// LoadSteady is Load for a process that goes by the configuration from now on:
// a file that is being written is waited for.
func LoadSteady(ctx context.Context, opts Options) (*Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, steadyWithin)
	defer cancel()
	for {
		content, err := opts.steady(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("configuration file: %w", err)
		}
		loaded, err := Load(opts)
		if err != nil || loaded.content == content {
			return loaded, err
		}
	}
}

// glimpse is a file at one look.
type glimpse struct {
	content [32]byte
	away    bool // it cannot be read
}

// look looks at the file; without one there is nothing to see.
func (o Options) look() (glimpse, error) {
	if o.File == "" {
		return glimpse{}, nil
	}
	text, err := readLimited(o.FS, o.File)
	if err != nil {
		return glimpse{away: true}, err
	}
	return glimpse{content: sha256.Sum256(text)}, nil
}

// steady names the file's content once two looks agree: a file that is being
// written is another one the next time.
func (o Options) steady(ctx context.Context) ([32]byte, error) {
	last, err := o.look()
	for o.File != "" {
		timer := time.NewTimer(steadyFor)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last.content, fmt.Errorf("%s is being written: %w", o.File, ctx.Err())
		}
		var now glimpse
		if now, err = o.look(); now == last {
			break
		}
		last = now
	}
	return last.content, err
}

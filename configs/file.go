package configs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFile bounds a configuration file and a file that holds a secret, in bytes.
	maxFile = 1 << 20
	// steadyFor is the time between two readings of a file that must agree.
	steadyFor = 100 * time.Millisecond
	// steadyWithin bounds the wait for a file that keeps changing.
	steadyWithin = 5 * time.Second
)

// readLimited reads a file from files, or from the system when that is nil.
func readLimited(files fs.FS, name string) ([]byte, error) {
	open := func() (fs.File, error) {
		if files == nil {
			return os.Open(name) // #nosec G304 -- the configuration file itself
		}
		return files.Open(name)
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return slices.Clip(text), errors.Join(err, f.Close())
}

// parseYAML reads the one document of a file, and turns the parser's panics on
// some broken input into errors.
func parseYAML(text []byte) (tree map[string]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not readable as YAML: %v", p)
		}
	}()
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&tree); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return tree, requireEnd(documents)
}

// requireEnd refuses a second document, because it would be ignored. An empty one, after a trailing "---", is allowed.
func requireEnd(documents *yaml.Decoder) error {
	for {
		var next yaml.Node
		err := documents.Decode(&next)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(next.Content) > 0 && next.Content[0].Tag != "!!null" {
			return fmt.Errorf("the file holds two YAML documents, one from its top and one from line %d on: keep one",
				next.Content[0].Line)
		}
	}
}

// LoadSteady loads a configuration like Load, but waits for a file that is being written.
func LoadSteady(ctx context.Context, opts Options) (*Loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, steadyWithin)
	defer cancel()
	for {
		content, err := opts.steadyContent(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("configuration file: %w", err)
		}
		loaded, err := Load(opts)
		if err != nil || loaded.content == content {
			return loaded, err
		}
	}
}

// FileState is the state of a file at one reading. Equal states mean equal content.
type FileState struct {
	Content    [32]byte // a hash; zero without a file
	unreadable bool
}

// FileState reads the file that the configuration came from and returns its state.
func (l *Loaded) FileState() (FileState, error) { return l.opts.fileState() }

// SteadyContent waits until two readings of the file agree, and returns the hash of its content.
func (l *Loaded) SteadyContent(ctx context.Context) ([32]byte, error) {
	return l.opts.steadyContent(ctx)
}

func (o Options) fileState() (FileState, error) {
	if o.File == "" {
		return FileState{}, nil
	}
	text, err := readLimited(o.FS, o.File)
	if err != nil {
		return FileState{unreadable: true}, err
	}
	return FileState{Content: sha256.Sum256(text)}, nil
}

func (o Options) steadyContent(ctx context.Context) ([32]byte, error) {
	last, err := o.fileState()
	for o.File != "" {
		timer := time.NewTimer(steadyFor)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last.Content, fmt.Errorf("%s is being written: %w", o.File, ctx.Err())
		}
		var now FileState
		if now, err = o.fileState(); now == last {
			break
		}
		last = now
	}
	return last.Content, err
}

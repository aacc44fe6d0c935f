package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

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
	return tree, endsHere(documents)
}

// endsHere refuses further documents: which of two counts is not ours to choose.
// One without content is what a trailing "---" makes.
func endsHere(documents *yaml.Decoder) error {
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

// Package pattern matches names of sales and topics with patterns such as flash-*.
package pattern

import (
	"fmt"
	"path"
	"slices"
)

// Most is how many patterns a list may have.
const Most = 100

// Match reports whether a name matches one of the patterns, which are as in path.Match. An empty list matches all.
func Match(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		matched, err := path.Match(p, name)
		return err == nil && matched
	})
}

// Check returns an error that names the key and the pattern that cannot be read.
func Check(key string, patterns []string) error {
	if len(patterns) > Most {
		return fmt.Errorf("%s: has %d patterns, use at most %d", key, len(patterns), Most)
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > 64 {
			return fmt.Errorf("%s: %q is no pattern, use a name with * ? [a-z] for parts", key, p)
		}
	}
	return nil
}

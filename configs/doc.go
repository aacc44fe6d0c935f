// Package configs holds the whole configuration: one struct composed of each
// part's own, the loader that fills it from flags, environment, file and
// defaults, and the commented files Sluice ships.
package configs

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var shipped embed.FS

// Shipped holds the commented files that come with Sluice: embedded.yaml,
// production.yaml and limits.yaml.
func Shipped() fs.FS { return shipped }

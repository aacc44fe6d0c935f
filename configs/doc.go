// Package configs has the whole configuration, a struct composed of each room's Config. It loads it from flags,
// environment, file and defaults, and ships commented files.
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

// Package configs holds the whole configuration: one struct composed of each
// part's own, the loader that fills it from flags, environment, file and
// defaults, and the commented files Sluice ships.
package configs

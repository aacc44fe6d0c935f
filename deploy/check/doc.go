// Package check holds what deploy/ ships against the programs that read it. They are Docker,
// Compose, Kubernetes, nginx, systemd, Prometheus, and sluice itself. It is a module of its own, so
// that their parsers stay out of the product's dependencies.
package check

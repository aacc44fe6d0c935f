package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The range lies below the ports that Linux and macOS hand to outgoing connections. So while a
// server is down, no client can take its port. One that keeps dialling that very port could
// otherwise end up connected to itself.
const (
	firstPort = 15000
	portCount = 16000
	portTries = 200
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort() (int, error) {
	var last error
	for range portTries {
		port := firstPort + rand.IntN(portCount) // #nosec G404 -- any free port will do
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("release port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1 from %d to %d after %d tries: %w",
		firstPort, firstPort+portCount-1, portTries, last)
}

package hosts

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	long  = 10 * time.Second
	short = 50 * time.Millisecond
)

// A shell on one host talks to a Redis on another: what a network does is seen there.
func TestANetworkOfHosts(t *testing.T) {
	t.Parallel()
	if why := Obstacle(); why != "" {
		t.Skip("not here: ", why)
	}
	var prefix string
	t.Run("while it is there", func(t *testing.T) {
		n := Join(New(t, "one", "two", "three").String())
		prefix = n.prefix
		ask := func(from, to string) error {
			script := fmt.Sprintf("exec 3<>/dev/tcp/%s/7 && head -c 2 <&3 | grep -q hi", n.Address(to))
			command := append([]string{"0.5"}, n.Command(from, "bash", "-c", script)...)
			return exec.CommandContext(t.Context(), "timeout", command...).Run() // #nosec G204 -- written here
		}
		for _, host := range n.hosts {
			n.greet(t, host)
		}
		answers := func(from, to string) {
			t.Helper()
			require.Eventually(t, func() bool { return ask(from, to) == nil }, long, short, "%s reaches %s", from, to)
		}
		answers("one", "two")
		answers("three", "one")
		require.NoError(t, n.Part([]string{"one"}, []string{"two"}))
		require.Error(t, ask("one", "two"))
		require.Error(t, ask("two", "one"))
		answers("one", "three")
		answers("three", "two")
		require.NoError(t, n.Unite([]string{"one"}, []string{"two"}))
		answers("one", "two")
		answers("two", "one")

		if err := n.Delay("one", "two", "100ms"); !errors.Is(err, ErrNoNetem) {
			require.NoError(t, err)
			start := time.Now()
			answers("one", "two")
			require.Greater(t, time.Since(start), 100*time.Millisecond)
			require.NoError(t, n.Hasten("one", "two"))
		}
	})
	left, err := exec.CommandContext(t.Context(), "ip", "netns", "list").Output()
	require.NoError(t, err)
	require.False(t, prefix == "" || strings.Contains(string(left), prefix), "namespaces are left: %s", left)
}

// greet answers whoever connects to a host's port 7 with "hi" until the test ends.
func (n *Network) greet(t *testing.T, host string) {
	t.Helper()
	command := n.Command(host, "perl", "-MIO::Socket::INET", "-e", `
		$s = IO::Socket::INET->new(Listen => 5, LocalPort => 7, ReuseAddr => 1) or die;
		while ($c = $s->accept) { print $c "hi"; close $c }`)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...) // #nosec G204 -- written here
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's end has killed it
}

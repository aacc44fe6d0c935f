package check

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithProfiles([]string{"cli"}),
		cli.WithEnv([]string{
			"AUTH_SECRET=0123456789abcdef0123456789abcdef", "REDIS_PASSWORD=r", "DATABASE_PASSWORD=d",
			"GRAFANA_PASSWORD=g",
		}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

func TestComposeBringsUpTheWholeSystem(t *testing.T) {
	t.Parallel()
	project := compose(t)
	require.ElementsMatch(t, []string{"gateway-1", "gateway-2", "worker-1", "worker-2", "cli", "loadbalancer", "redis",
		"redis-replica",
		"mariadb", "prometheus", "grafana"}, project.ServiceNames())
	grace := setting(t, "../compose/sluice.yaml", "stop.grace")
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, "Docker would make an empty folder of it")
			}
		}
		if s.Build == nil {
			require.Regexp(t, `:v?\d+\.\d+\.\d+`, s.Image, "%s is not pinned", name)
			continue
		}
		require.FileExists(t, filepath.Join(s.Build.Context, s.Build.Dockerfile))
		require.Empty(t, s.Ports, "%s is reached through the load balancer only", name)
		require.NotNil(t, s.StopGracePeriod)
		require.Greater(t, time.Duration(*s.StopGracePeriod), grace, "%s would be killed while it drains", name)
		require.True(t, s.ReadOnly, name)
	}
	require.True(t, bool(project.Networks["private"].Internal))
	for _, name := range []string{"redis", "redis-replica", "mariadb", "gateway-1", "gateway-2"} {
		require.NotContains(t, project.Services[name].Networks, "public", name)
	}
}

// The load balancer believes nobody and knows every gateway.
func TestComposeLoadBalancer(t *testing.T) {
	t.Parallel()
	text := read(t, "../compose/nginx.conf")
	require.Equal(t, bytes.Count(text, []byte("{")), bytes.Count(text, []byte("}")))
	for name, s := range compose(t).Services {
		if len(s.Command) > 0 && s.Command[len(s.Command)-1] == "gateway" {
			require.True(t, bytes.Contains(text, []byte(name+":8080")), "%s gets no shoppers", name)
		}
	}
	found := regexp.MustCompile(`proxy_read_timeout (\w+);`).FindSubmatch(text)
	require.NotNil(t, found)
	patience, err := time.ParseDuration(string(found[1]))
	require.NoError(t, err)
	require.Greater(t, patience, setting(t, "../compose/sluice.yaml", "gateway.max_wait"),
		"long polls would be cut off")
}

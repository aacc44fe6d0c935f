package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	network "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// cluster is what "kubectl apply -k" would send, by kind.
type cluster struct {
	deployments []apps.Deployment
	services    []core.Service
	budgets     []policy.PodDisruptionBudget
	policies    []network.NetworkPolicy
	crons       []batch.CronJob
	roles       []rbac.Role
	maps        []core.ConfigMap
}

// decode refuses fields that the kind does not have.
func decode[T any](t *testing.T, into *[]T, text []byte) {
	t.Helper()
	var object T
	require.NoError(t, yaml.UnmarshalStrict(text, &object), string(text))
	*into = append(*into, object)
}

func load(t *testing.T) cluster {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../kubernetes")
	require.NoError(t, err)
	var c cluster
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		require.NoError(t, err)
		switch kind := r.GetKind(); kind {
		case "Deployment":
			decode(t, &c.deployments, text)
		case "Service":
			decode(t, &c.services, text)
		case "PodDisruptionBudget":
			decode(t, &c.budgets, text)
		case "NetworkPolicy":
			decode(t, &c.policies, text)
		case "CronJob":
			decode(t, &c.crons, text)
		case "Role":
			decode(t, &c.roles, text)
		case "ConfigMap":
			decode(t, &c.maps, text)
		case "Namespace":
			decode(t, &[]core.Namespace{}, text)
		case "ServiceAccount":
			decode(t, &[]core.ServiceAccount{}, text)
		case "RoleBinding":
			decode(t, &[]rbac.RoleBinding{}, text)
		default:
			require.Fail(t, "nobody checks this kind", kind)
		}
	}
	return c
}

func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	c := load(t)
	require.Len(t, c.deployments, 2)
	require.Len(t, c.services, 1)
	grace := setting(t, "../kubernetes/sluice.yaml", "stop.grace")
	for _, d := range c.deployments {
		spec := d.Spec.Template.Spec
		require.Greater(t, time.Duration(*spec.TerminationGracePeriodSeconds)*time.Second, grace,
			"%s would be killed while it drains", d.Name)
		require.True(t, *spec.SecurityContext.RunAsNonRoot)
		require.False(t, *spec.AutomountServiceAccountToken)
		require.Len(t, spec.Containers, 1)
		checkContainer(t, spec.Containers[0])
		budget := slices.IndexFunc(c.budgets, func(b policy.PodDisruptionBudget) bool {
			return selects(t, b.Spec.Selector, d.Spec.Template.Labels)
		})
		require.GreaterOrEqual(t, budget, 0, "%s has no disruption budget", d.Name)
		require.True(t, selects(t, d.Spec.Selector, d.Spec.Template.Labels))
	}
	require.Contains(t, c.maps[0].Data, "sluice.yaml")
	require.Equal(t, "sluice", c.maps[0].Name, "a name that changes with the content would need a restart")
}

func checkContainer(t *testing.T, c core.Container) {
	t.Helper()
	require.Equal(t, "/livez", c.LivenessProbe.HTTPGet.Path, "liveness asks nothing of the stores")
	require.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/livez", c.StartupProbe.HTTPGet.Path)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.False(t, c.Resources.Limits.Memory().IsZero())
	for _, e := range c.Env {
		if strings.HasPrefix(e.Name, "SLUICE_") {
			require.NotNil(t, e.ValueFrom, "%s is a secret and comes from one", e.Name)
			require.NotNil(t, e.ValueFrom.SecretKeyRef, e.Name)
		}
	}
	config := slices.IndexFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == "/etc/sluice" })
	require.GreaterOrEqual(t, config, 0)
	require.Empty(t, c.VolumeMounts[config].SubPath, "a file mounted alone never changes")
}

func selects(t *testing.T, s *meta.LabelSelector, pod map[string]string) bool {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(s)
	require.NoError(t, err)
	return selector.Matches(labels.Set(pod))
}

// The operations listener is reached by no rule that lets shoppers in, and by no service.
func TestKubernetesKeepsTheOperationsListenerInside(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, s := range c.services {
		for _, p := range s.Spec.Ports {
			require.NotContains(t, []string{"ops", "8081"}, p.TargetPort.String())
		}
	}
	open := map[int32][]string{}
	for _, p := range c.policies {
		require.Equal(t, []network.PolicyType{network.PolicyTypeIngress}, p.Spec.PolicyTypes)
		for _, rule := range p.Spec.Ingress {
			require.NotEmpty(t, rule.From, "%s lets everybody in", p.Name)
			require.NotEmpty(t, rule.Ports, "%s opens every port", p.Name)
			for _, port := range rule.Ports {
				open[port.Port.IntVal] = append(open[port.Port.IntVal], p.Name)
			}
		}
	}
	require.Equal(t, map[int32][]string{8080: {"sluice-shoppers"}, 8081: {"sluice-operators"}}, open)
	for _, d := range c.deployments {
		denied := slices.ContainsFunc(c.policies, func(p network.NetworkPolicy) bool {
			return len(p.Spec.Ingress) == 0 && selects(t, &p.Spec.PodSelector, d.Spec.Template.Labels)
		})
		require.True(t, denied, "%s is open by default", d.Name)
	}
}

// What scales before a sale names deployments that exist, may do so, and makes room both ways.
func TestKubernetesPrescaling(t *testing.T) {
	t.Parallel()
	c := load(t)
	require.Len(t, c.crons, 2)
	var names []string
	for _, d := range c.deployments {
		names = append(names, d.Name)
	}
	for _, cron := range c.crons {
		require.NotEmpty(t, *cron.Spec.TimeZone, "a sale begins in its own zone")
		args := cron.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args
		var scaled []string
		for _, a := range args {
			if name, ok := strings.CutPrefix(a, "deployment/"); ok {
				scaled = append(scaled, name)
			}
		}
		require.ElementsMatch(t, names, scaled)
	}
	for _, rule := range c.roles[0].Rules {
		require.ElementsMatch(t, names, rule.ResourceNames)
		require.NotContains(t, rule.Verbs, "*")
	}
}

// Every file of the folder is part of what is applied.
func TestKubernetesFilesAreAllApplied(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../kubernetes/*.yaml")
	require.NoError(t, err)
	listed, err := os.ReadFile("../kubernetes/kustomization.yaml")
	require.NoError(t, err)
	for _, f := range files {
		if name := filepath.Base(f); name != "kustomization.yaml" {
			require.Contains(t, string(listed), name)
		}
	}
}

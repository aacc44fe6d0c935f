package configs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

func file(text string) Options {
	return Options{File: "c.yaml", FS: fstest.MapFS{"c.yaml": {Data: []byte(text)}}, Env: withSecret()}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	opts := file("queue: {cap: 2, batch: 2, max_attempts: 2, lease: 22s}")
	opts.Defaults = map[string]any{"queue.cap": 1, "queue.batch": 1, "queue.max_attempts": 1,
		"queue.lease": 11 * time.Second, "pool.size": 11}
	opts.Env = withSecret("SLUICE_QUEUE__CAP=3", "SLUICE_QUEUE__BATCH=3", "HOME=/x", "SLUICE_TOKEN=t",
		"SLUICE_TEST_X=1")
	opts.Flags = map[string]any{"queue.cap": 4}
	l, err := Load(opts)
	require.NoError(t, err)
	require.Equal(t, 4, l.Config.Queue.Cap)
	require.Equal(t, "flag", l.Source("queue.cap"))
	require.Equal(t, 3, l.Config.Queue.Batch)
	require.Equal(t, "env SLUICE_QUEUE__BATCH", l.Source("queue.batch"))
	require.Equal(t, 22*time.Second, l.Config.Queue.Lease)
	require.Equal(t, "file c.yaml", l.Source("queue.lease"))
	require.Equal(t, 11, l.Config.Pool.Size)
	require.Equal(t, "default", l.Source("pool.size"))
	require.Equal(t, time.Second, l.Config.Queue.Backoff)
}

func TestEnvironmentForms(t *testing.T) {
	t.Parallel()
	l, err := Load(Options{Env: withSecret(
		"SLUICE_REDIS__MODE=cluster", "SLUICE_REDIS__ADDRS=a:1, b:2,", "SLUICE_REDIS__TLS__ENABLED=true",
		"SLUICE_LIMITS__PER_IP_RPS=0.5", "SLUICE_QUEUE__LEASE=1m30s", "SLUICE_GATEWAY__TRUSTED_PROXIES=",
	)})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, l.Config.Redis.Addrs)
	require.True(t, l.Config.Redis.TLS.Enabled)
	require.InDelta(t, 0.5, l.Config.Limits.PerIPRPS, 0)
	require.Equal(t, 90*time.Second, l.Config.Queue.Lease)
	require.Empty(t, l.Config.Gateway.TrustedProxies)
}

func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(testSecret+"\r\n"), 0o600))
	l, err := Load(Options{Env: []string{"SLUICE_AUTH__SECRET_FILE=" + path}})
	require.NoError(t, err)
	require.Equal(t, testSecret, l.Config.Auth.Secret)
	require.Equal(t, "env SLUICE_AUTH__SECRET_FILE", l.Source("auth.secret"))

	_, err = Load(Options{Env: withSecret("SLUICE_AUTH__SECRET_FILE=" + path)})
	require.ErrorContains(t, err, "auth.secret is set twice")
	_, err = Load(Options{Env: []string{"SLUICE_AUTH__SECRET_FILE=" + path + "none"}})
	require.ErrorContains(t, err, "auth.secret: open "+path+"none")
	_, err = Load(Options{Env: withSecret("SLUICE_HTTP__ADDR_FILE=" + path)})
	require.ErrorContains(t, err, "SLUICE_HTTP__ADDR_FILE")
	l, err = Load(Options{Env: withSecret("SLUICE_AUTH__PUBLIC_KEY_FILE=/k.pem"), Sections: []string{"auth"}})
	require.NoError(t, err)
	require.Equal(t, "/k.pem", l.Config.Auth.PublicKeyFile)
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	opts := file(`
queu: {cap: 1}
queue: {capp: 1, cap: many, batch: 0, lease: 10}
redis: 7
pool: {size: {a: 1}}
log: {level: 3}
auth: {secret: [hunter2hunter2]}
database: {driver: oracle}
`)
	opts.Env = []string{"SLUICE_QUEUE_CAP=1", "SLUICE_QUEUE__MAX_ATTEMPTS=x", "SLUICE_REDIS__PASSWORD=hunter2hunter2",
		"SLUICE_REDIS__DB=99"}
	opts.Flags = map[string]any{"http.port": 1}
	_, err := Load(opts)
	for _, want := range []string{
		`unknown key "queu": allowed are http, ops,`,
		`unknown key "queue.capp": allowed in queue are cap, batch,`,
		`queue.cap must be a whole number, got "many" (file c.yaml)`,
		`queue.batch must be between 1 and 20000, got 0 (file c.yaml)`,
		`queue.lease must be a duration such as 10s or 1m30s, got 10 (file c.yaml)`,
		`redis must be a section with the keys mode, addrs`,
		`pool.size must be a whole number, got map[a:1]`,
		`log.level must be text; put it in quotes, got 3`,
		`auth.secret must be text; put it in quotes (file c.yaml)`,
		`database.driver`, `(file c.yaml)`,
		`unknown environment variable SLUICE_QUEUE_CAP`,
		`queue.max_attempts must be a whole number, got "x" (env SLUICE_QUEUE__MAX_ATTEMPTS)`,
		`redis.db must be between 0 and 15, got 99 (env SLUICE_REDIS__DB)`,
		`unknown key "http.port" (flag)`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "hunter2")
}

func TestFilesThatAreNotConfigurations(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"list": "- a", "broken": "a: [", "twice": "queue: {cap: 1, cap: 2}",
		"text": "hello"} {
		_, err := Load(file(text))
		require.ErrorContains(t, err, "c.yaml", name)
	}
	for _, text := range []string{"", "\n", "# nothing", "---", "queue:", "queue: {cap: }", "queue: {}"} {
		_, err := Load(file(text))
		require.ErrorContains(t, err,
			"the file sets no key: write one, or start without a configuration file (file c.yaml)", text)
	}
	l, err := Load(file("queue: {cap: , batch: 5}"))
	require.NoError(t, err)
	require.Equal(t, "default", l.Source("queue.cap"))
	_, err = Load(Options{File: filepath.Join(t.TempDir(), "none.yaml"), Env: withSecret()})
	require.ErrorContains(t, err, "none.yaml")
	_, err = Load(file("# " + string(bytes.Repeat([]byte("x"), maxFile))))
	require.ErrorContains(t, err, "larger than")
}

// TestAKeyThatIsWrittenTwice checks that a key that is written twice and a second document are refused.
func TestAKeyThatIsWrittenTwice(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"queue: {drain: true}\nqueue.drain: false": `queue.drain is written twice, as "queue: drain" and ` +
			`as "queue.drain": keep one (file c.yaml)`,
		"notify.email.rate: 1\nnotify: {email: {rate: 1}}": `notify.email.rate is written twice, as "notify: ` +
			`email: rate" and as "notify.email.rate"`,
		"notify: {email.rate: 1, email: {rate: 2}}": `notify.email.rate is written twice, as "notify: ` +
			`email: rate" and as "notify: email.rate"`,
		"limits.sales: {}\nlimits: {sales: {}}": `limits.sales is written twice`,
		"queue: {drain: false}\n---\nqueue: {drain: true}": `the file holds two YAML documents, one from its top ` +
			`and one from line 3 on: keep one (file c.yaml)`,
		"---\n---\npool: {size: 3}":      `the file holds two YAML documents`,
		"pool: {size: 3}\n---\n---\n- 1": `the file holds two YAML documents`,
	} {
		for range 20 { // the order of a map is another each time
			_, err := Load(file(text))
			require.ErrorContains(t, err, want, text)
		}
	}
	for _, text := range []string{"---\npool: {size: 3}\n---\n", "pool: {size: 3}\n...\n",
		"pool: {size: }\npool.size: 3", "pool.size: 3"} {
		l, err := Load(file(text))
		require.NoError(t, err, text)
		require.Equal(t, 3, l.Config.Pool.Size)
	}
}

func TestKubernetesServiceLinksAreNotOurs(t *testing.T) {
	t.Parallel()
	_, err := Load(Options{Env: withSecret(
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_SERVICE_PORT=8080", "SLUICE_SERVICE_PORT_HTTP=8080",
		"SLUICE_PORT=tcp://10.0.0.1:8080",
		"SLUICE_PORT_8080_TCP=tcp://10.0.0.1:8080", "SLUICE_PORT_8080_TCP_ADDR=10.0.0.1",
		"SLUICE_GATEWAY_SERVICE_HOST=10.0.0.2",
	)})
	require.NoError(t, err)
	_, err = Load(Options{Env: withSecret("SLUICE_HTTP_PORT=8080")})
	require.ErrorContains(t, err, "SLUICE_HTTP_PORT")
}

func TestPrintMasksSecretsAndNamesSources(t *testing.T) {
	t.Parallel()
	opts := file("queue: {cap: 5}\ngateway: {busy_url: 'https://u:topsecret@shop.example/busy'}")
	opts.Env = withSecret("SLUICE_REDIS__PASSWORD=topsecret", "SLUICE_DATABASE__DRIVER=postgres",
		"SLUICE_DATABASE__DSN=postgres://sluice:topsecret@db/sluice")
	l, err := Load(opts)
	require.NoError(t, err)
	var lines, object bytes.Buffer
	require.NoError(t, l.Print(&lines, false))
	require.NoError(t, l.Print(&object, true))
	for _, out := range []string{lines.String(), object.String()} {
		require.NotContains(t, out, "topsecret")
		require.NotContains(t, out, testSecret)
		require.Contains(t, out, "postgres://sluice:xxxxx@db/sluice")
	}
	require.Regexp(t, `(?m)^queue\.cap +5 +file c\.yaml$`, lines.String())
	require.Regexp(t, `(?m)^queue\.lease +"10s" +default$`, lines.String())
	require.Regexp(t, `(?m)^auth\.secret +"\*{8}" +env SLUICE_AUTH__SECRET$`, lines.String())
	var all map[string]struct {
		Value  any
		Source string
	}
	require.NoError(t, json.Unmarshal(object.Bytes(), &all))
	require.Len(t, all, len(l.schema.keys))
	require.Equal(t, "env SLUICE_REDIS__PASSWORD", all["redis.password"].Source)
	require.Empty(t, all["redis.sentinel_password"].Value)
}

func TestMaskDSN(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"data/sluice.db":                          "data/sluice.db",
		"file:data/x.db?_pragma=busy_timeout(1)":  "file:data/x.db?_pragma=busy_timeout(1)",
		"postgres://u:p%40ss@h:5432/d?sslmode=no": "postgres://u:xxxxx@h:5432/d?sslmode=no",
		"postgres://h/d?user=u&password=pass":     mask,
		"host=h user=u password=pass":             mask,
		"u:p@ss:w/rd@tcp(h:3306)/d":               "u:" + mask + "@tcp(h:3306)/d",
		"u:pass@/d":                               "u:" + mask + "@/d",
		"postgres://u:p ss%@h/d":                  mask,
	} {
		require.Equal(t, want, maskDSN(dsn))
	}
}

func TestSchemaForms(t *testing.T) {
	t.Parallel()
	type inner struct {
		Names map[string]string `koanf:"names"`
		Keys  []string          `koanf:"keys" secret:"true"`
		skip  int
	}
	type part struct {
		Inner inner `koanf:",squash"`
		Deep  inner `koanf:"deep"`
		Free  func()
	}
	s := newSchema(reflect.TypeFor[part]())
	var out part
	file := s.fileLayer(fstest.MapFS{"f": {Data: []byte("names: {A: x, b.c: y}\ndeep: {keys: [k]}")}}, "f")
	_, errs := s.fill(reflect.ValueOf(&out).Elem(), file, Options{Env: []string{"SLUICE_DEEP__NAMES=a=1,b=2"}})
	require.Empty(t, errs)
	require.Equal(t, map[string]string{"A": "x", "b.c": "y"}, out.Inner.Names)
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, out.Deep.Names)
	require.Equal(t, []string{"k"}, out.Deep.Keys)
	require.Zero(t, out.Inner.skip)
	require.Equal(t, []string{mask}, s.byPath["deep.keys"].Visible([]string{"k"}))
	require.Equal(t, map[string]string{"a": mask}, s.byPath["names"].Visible(map[string]string{"a": "token"}))

	type bad struct {
		C chan int `koanf:"c"`
	}
	require.PanicsWithValue(t, "configs: key c has type chan int, which cannot be configured", func() {
		newSchema(reflect.TypeFor[bad]())
	})
}

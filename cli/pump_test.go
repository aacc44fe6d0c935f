package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// shipping is a process with a topic of order events, and a pull subscription of it.
type shipping struct {
	t   *testing.T
	app *app.App
	env []string
}

func newShipping(t *testing.T) *shipping {
	t.Helper()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Work.Addr, cfg.Delay.OrderEvents = "127.0.0.1:0", true
	s := &shipping{t: t, app: startApp(t, cfg, app.AllRoles()), env: []string{secretEnv}}
	openSale(t, inventory.NewSale{ID: "phone", Stock: 99}, s.app)
	s.ops("topic", "create", "--url", "", "--event", "order.confirmed", "orders")
	s.ops("subscription", "create", "--topic", "orders", "--lease", "1s", "log")
	return s
}

// ops runs a command of the operations listener, which must succeed.
func (s *shipping) ops(args ...string) string {
	s.t.Helper()
	got := sluice(s.t, s.env, append(args, "--ops", s.app.OpsAddr())...)
	require.Equal(s.t, exitSuccess, got.code, got.err)
	return got.out
}

// pump starts a pump that runs until it is interrupted.
func (s *shipping) pump(out string) *follower {
	s.t.Helper()
	return follow(s.t, s.env, "subscription", "pump", "--out", out, "--work", s.app.WorkAddr(), "log")
}

// acknowledged waits until so many messages are.
func (s *shipping) acknowledged(n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var list struct{ Messages []json.RawMessage }
		require.NoError(s.t, json.Unmarshal([]byte(s.ops("subscription", "message", "list", "--state", "complete",
			"--limit", "100", "--json", "log")), &list))
		return len(list.Messages) == n
	}, tailPatience, 10*time.Millisecond)
}

// shipped returns the orders that the lines of a file are about, in their order.
func shipped(t *testing.T, file string) (orders []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var m struct {
			SpecVersion, ID, Source, Type, Subject, Sale, DataContentType string
			Time                                                          time.Time
			Attempt                                                       int
			Data                                                          struct {
				Type    string
				Version int
				Data    struct {
					OrderID string `json:"order_id"`
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		require.Equal(t, []any{"1.0", m.Subject + ":order.confirmed", "/sluice/orders", "order.confirmed", "phone",
			"application/json", "order.confirmed", 1, m.Subject}, []any{m.SpecVersion, m.ID, m.Source, m.Type, m.Sale,
			m.DataContentType, m.Data.Type, m.Data.Version, m.Data.Data.OrderID})
		require.WithinDuration(t, time.Now(), m.Time, time.Hour)
		orders = append(orders, m.Subject)
	}
	return orders
}

// TestPumpShipsASale writes each event of a sale once, keeps its place from one pump to the next, and goes on in a new
// file when the old one was moved away.
func TestPumpShipsASale(t *testing.T) {
	t.Parallel()
	s := newShipping(t)
	file := filepath.Join(t.TempDir(), "orders.ndjson")
	var orders []string
	first := s.pump(file)
	for n := range 5 {
		orders = append(orders, buy(t, s.app, "phone", n))
	}
	s.acknowledged(5)
	require.ElementsMatch(t, orders, shipped(t, file))
	require.NoError(t, os.Rename(file, file+".1"))
	rotated := buy(t, s.app, "phone", 5)
	s.acknowledged(6)
	require.Equal(t, []string{rotated}, shipped(t, file))
	require.Equal(t, exitSuccess, first.ends(), first.err)

	late := buy(t, s.app, "phone", 6)
	second := s.pump(file)
	s.acknowledged(7)
	require.Equal(t, exitSuccess, second.ends())
	require.Equal(t, []string{rotated, late}, shipped(t, file))
	about, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), about.Mode().Perm())
}

// TestPumpToAPipe writes to standard output what is due, and ends.
func TestPumpToAPipe(t *testing.T) {
	t.Parallel()
	s := newShipping(t)
	bought := buy(t, s.app, "phone", 0)
	var out string
	require.Eventually(t, func() bool {
		got := sluice(t, s.env, "subscription", "pump", "--out", "-", "--once", "--work", s.app.WorkAddr(), "log")
		require.Equal(t, exitSuccess, got.code, got.err)
		out += got.out
		return out != ""
	}, tailPatience, 10*time.Millisecond)
	require.Regexp(t, `^\{"specversion":"1.0","id":"`+bought+`:order.confirmed",.*"attempt":1,"data":\{.*\}\}\n$`, out)
	s.acknowledged(1)
}

// TestPumpHoldsWhatItCannotWrite lets the folder of the file come late: until then the messages are held beyond their
// lease, and lose no attempt.
func TestPumpHoldsWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	s := newShipping(t)
	folder := filepath.Join(t.TempDir(), "later")
	file := filepath.Join(folder, "orders.ndjson")
	p := s.pump(file)
	bought := buy(t, s.app, "phone", 0)
	require.Eventually(t, func() bool {
		var list struct {
			Messages []struct {
				Due time.Time `json:"due_at"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(s.ops("subscription", "message", "list", "--state", "running",
			"--json", "log")), &list))
		return len(list.Messages) == 1 && time.Until(list.Messages[0].Due) > time.Minute
	}, tailPatience, 10*time.Millisecond, "its lease of a second is made longer")
	require.Contains(t, p.err.String(), "trying again")
	require.NoError(t, os.Mkdir(folder, 0o700))
	s.acknowledged(1)
	require.Equal(t, []string{bought}, shipped(t, file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), `"attempt":1,`)
	require.Equal(t, exitSuccess, p.ends())
}

// TestPumpGoesOnWhenTheListenerIsBack loses the connection before the acknowledgement. It comes late, or the message
// comes twice.
func TestPumpGoesOnWhenTheListenerIsBack(t *testing.T) {
	t.Parallel()
	s := newShipping(t)
	proxy := testkit.NewProxy(t, s.app.WorkAddr())
	file := filepath.Join(t.TempDir(), "orders.ndjson")
	p := follow(t, s.env, "subscription", "pump", "--out", file, "--work", proxy.Addr(), "log")
	before := buy(t, s.app, "phone", 0)
	s.acknowledged(1)
	proxy.Cut()
	missed := buy(t, s.app, "phone", 1)
	require.Eventually(t, func() bool { return strings.Contains(p.err.String(), "trying again") }, tailPatience,
		5*time.Millisecond)
	require.NoError(t, proxy.Heal())
	s.acknowledged(2)
	require.Equal(t, []string{before, missed}, shipped(t, file))
	require.Equal(t, exitSuccess, p.ends())
}

func TestPumpEndsWhereItCannotGoOn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f")
	env, _ := operations(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"stock"}, exitUsage, `required flag(s) "out"`},
		{[]string{"--out", file, "--batch", "0", "stock"}, exitUsage, "--batch must be"},
		{[]string{"--out", "", "stock"}, exitUsage, "--out wants a file"},
		{[]string{"--out", file, "../x"}, exitUsage, "a subscription's name"},
		{[]string{"--out", file, "stock"}, exitFailure, `work.addr "" names no port to connect to: set --work`},
		{[]string{"--out", file, "--work", "http://127.0.0.1:1", "stock"}, exitFailure,
			"is sluice running? set --work"},
	} {
		got := sluice(t, env, append([]string{"subscription", "pump"}, c.args...)...)
		require.Equal(t, c.code, got.code, "%v: %s", c.args, got.err)
		require.Contains(t, got.err, c.want)
	}
	s := newShipping(t)
	got := sluice(t, s.env, "subscription", "pump", "--out", file, "--work", s.app.WorkAddr(), "nobody")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "subscription nobody: not_found")
	none := sluice(t, nil, "subscription", "pump", "--out", file, "--work", s.app.WorkAddr(), "log")
	require.Equal(t, exitFailure, none.code)
	require.Contains(t, none.err, "SLUICE_TOKEN")
}

// A file whose last line was begun by a pump that died is cut back to whole lines. One that ends in another way is left
// alone.
func TestALineThatWasBegun(t *testing.T) {
	t.Parallel()
	whole := `{"specversion":"1.0","id":"a"}` + "\n"
	for name, c := range map[string]struct{ before, after string }{
		"empty":             {"", "{}\n"},
		"whole":             {whole, whole + "{}\n"},
		"begun":             {whole + `{"specversion":"1.0","i`, whole + "{}\n"},
		"begun just now":    {whole + `{"sp`, whole + "{}\n"},
		"somebody else's":   {"name,price\nphone,99", ""},
		"one without lines": {"a note", ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			require.NoError(t, os.WriteFile(file, []byte(c.before), 0o600))
			f := &lineFile{path: file}
			err := f.write([]byte("{}\n"))
			require.NoError(t, f.close())
			text, err2 := os.ReadFile(file)
			require.NoError(t, err2)
			if c.after == "" {
				require.ErrorContains(t, err, "choose another file")
				c.after = c.before
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.after, string(text))
		})
	}
	require.ErrorContains(t, (&lineFile{path: "/dev/null"}).write([]byte("{}\n")), "for a pipe use --out -")
}

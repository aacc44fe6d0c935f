package cli

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// listed returns the layout of a list command.
func listed[T any](l listCommand[T]) layout {
	return func(text []byte) (string, error) {
		page, err := l.list(listRequest{}, listFlags{}).ReadPage(text)
		if err != nil {
			return "", err
		}
		return l.show(page, false)
	}
}

// TestTablesOfTheNewerCommands compares whole lines of tables with the API's answer.
func TestTablesOfTheNewerCommands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		show   layout
		answer string
		want   []string // whole lines, blanks squeezed
	}{
		"queue list": {listed(queueList()),
			`{"lines":[{"sale":"phone","depth":7,"capacity":2000,"oldest_age_seconds":1.25,"stock":470,"suspects":2,
"leased_batches":3,"retrying":4,"dead":5,
			"rates":{"admitted_per_second":12.34,"drained_per_second":56.78,"refused_per_second":90}}]}`,
			[]string{"SALE IN LINE OLDEST ADMITTED/S DRAINED/S REFUSED/S LEASED RETRYING SUSPECT DEAD STOCK",
				"phone 7/2000 1.2s 12.3 56.8 90 3 4 2 5 470"}},
		"queue show": {newLayout(queueCard),
			`{"sale":"phone","depth":7,"capacity":2000,"served":11,"admitted":18,"rebuilding":true}`,
			[]string{"sale phone", "in line 7/2000", "ever admitted 18", "ever drained 11", "line being rebuilt"}},
		"switch show": {newLayout(switchLines),
			`{"admission":true,"drain":false,"held":[],"left_out":["gateway.admission"]}`,
			[]string{"set, but not taken by this instance's version: gateway.admission", "admission on", "drain off"}},
		"config reload": {newLayout(reloadLines),
			`{"version":4,"changed":["pool.size"],"overridden":["queue.drain"],"needs_restart":["http.addr"]}`,
			[]string{"version 4", "changed pool.size", "overridden queue.drain: what operators have set counts",
				"needs restart http.addr"}},
		"queue leases": {listed(leaseList()),
			`{"total":3,"next":2,"leases":[{"batch_id":"b1","instance":"worker-1","tickets":20,
"deadline":"2027-06-01T12:00:00.000Z","age_seconds":2.5},
			{"batch_id":"b2","tickets":1,"deadline":"2027-06-01T11:00:00.000Z","overdue":true}]}`,
			[]string{"BATCH INSTANCE TICKETS AGE DEADLINE", "b1 worker-1 20 2.5s 2027-06-01T12:00:00.000Z",
				"b2 - 1 0.0s 2027-06-01T11:00:00.000Z (overdue)", "3 in all, more with --skip 2"}},
		"admin-log": {listed(adminLogList()), `{"next_cursor":"abc","entries":[
			{"at":"2027-06-01T12:00:00.000Z","actor":"cli:ann","action":"sale.update","target":"phone","reason":"full",
"before":{"cap":1,"title":"T"},"after":{"cap":2,"title":"T"}},
			{"at":"2027-06-01T12:00:01.000Z","actor":"cli:bob","action":"topic.delete","target":"t",
"before":{"name":"t"},"after":null},
			{"at":"2027-06-01T12:00:02.000Z","actor":"api:x","action":"dead.drop","target":"o",
"before":null,"after":{"outcome":"unknown"}}]}`,
			[]string{"AT WHO ACTION TARGET REASON CHANGE",
				"2027-06-01T12:00:00.000Z cli:ann sale.update phone full cap 1 -> 2",
				`2027-06-01T12:00:01.000Z cli:bob topic.delete t - no name t`,
				"2027-06-01T12:00:02.000Z api:x dead.drop o - outcome unknown", "more with --cursor abc"}},
		"topic message show": {newLayout(messageCard),
			`{"id":"m1","state":"dead","attempts":10,"last_error":"status 500",` +
				`"added_at":"2027-06-01T12:00:00.000Z","body":{"a":1}}`,
			[]string{"message m1", "state dead", "attempts 10", "last error status 500", "due -", `body {"a":1}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shown, err := c.show([]byte(c.answer))
			require.NoError(t, err)
			var lines []string
			for line := range strings.Lines(shown) {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
			for _, want := range c.want {
				require.Contains(t, lines, want)
			}
			_, err = c.show([]byte(`{`))
			require.Error(t, err)
		})
	}
}

// TestTablesShowNoControlCharacters checks that texts of users cannot control an operator's terminal.
func TestTablesShowNoControlCharacters(t *testing.T) {
	t.Parallel()
	shown, err := listed(adminLogList())([]byte(
		`{"entries":[{"at":"x","actor":"a\u001b[2J","action":"b\u0007","target":"c\u0000","reason":"d\n",` +
			`"before":{"k\u001b":1},"after":{"k\u001b":"\u009b"}}]}`))
	require.NoError(t, err)
	require.NotRegexp(t, `[\x00-\x09\x0b-\x1f\x7f\x{80}-\x{9f}]`, shown)
	require.Equal(t, 2, strings.Count(shown, "\n"))
}

func TestAListAsCSV(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"topics":[{"name":"t","enabled":true,"url":"=1+1,2","messages":{"dead":3}}]}`)
	})
	got := sluice(t, env, "topic", "list", "--csv", ops)
	require.Equal(t, "TOPIC,STATE,PENDING,FIRING,RETRYING,DEAD,URL\nt,on,0,0,0,3,\"'=1+1,2\"\n", got.out)
	require.Equal(t, exitUsage, sluice(t, env, "topic", "list", "--csv", "--json", ops).code)
}

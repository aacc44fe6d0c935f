package queue

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// quoted are the texts of a script between single quotes.
var (
	quoted    = regexp.MustCompile(`'((?:[^'\\\n]|\\.)*)'`)
	recordish = regexp.MustCompile(`^\^\(?(%a|q|f|x|c|p|e|\[[qcpfxe]+\])\)?\(?(\\t|$)`)
	metaKey   = regexp.MustCompile(`-- KEYS .*?\b(\d+) meta\b`)
	hashCall  = regexp.MustCompile(`call\('(HMGET|HGET|HSET|HINCRBY|HDEL)', (KEYS\[\d+\]|meta), `)
	metaIndex = regexp.MustCompile(`\bmeta\[(\d+)\]`)
	built     = regexp.MustCompile(`table\.concat\(\{(('[qcpfxe]'|state)(?s:.*?))\}, '\\t'\)`)
)

// allowedIn are the patterns by which a script may match a field of a kind.
func allowedIn(kind fieldKind) []string {
	return map[fieldKind][]string{
		letter: {"%a"}, number: {"%d+"}, maybe: {"%d*", "%d+", "[^\\t]*"}, text: {"[^\\t]*", "[^\\t]+", heldReason},
	}[kind]
}

// wrongPattern says why a pattern does not match records of the schema.
func wrongPattern(pattern string) string {
	schema := recordSchema()
	pattern = strings.TrimPrefix(strings.NewReplacer("(", "", ")", "").Replace(pattern), "^")
	// A class of characters holds a tab, too.
	pieces := strings.Split(strings.ReplaceAll(pattern, `[^\t]`, "\x00"), `\t`)
	for i, piece := range pieces {
		piece = strings.ReplaceAll(piece, "\x00", `[^\t]`)
		last := i == len(pieces)-1
		switch {
		case last && (piece == "" || piece == ".*$"):
		case i == len(pieces)-2 && pieces[i+1] == ".*$" && slices.Contains(allowedIn(text), piece) &&
			schema[i].kind == text:
		case i > atPay:
			return "field " + strconv.Itoa(i+1) + " is none of a record"
		case i == atState && strings.Trim(piece, "[]qcpfxe") == "":
		case !slices.Contains(allowedIn(schema[i].kind), piece):
			return piece + " is no " + schema[i].name
		}
	}
	return ""
}

// argumentsOf cuts what stands in a call, from behind its opening bracket, at the commas.
func argumentsOf(code string) (list []string) {
	depth, from, inText := 0, 0, false
	for i, c := range code {
		switch {
		case c == '\'':
			inText = !inText
		case inText:
		case c == '(' || c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ')' || c == ','):
			list = append(list, strings.TrimSpace(code[from:i]))
			from = i + 1
			if c == ')' {
				return list
			}
		case c == ')' || c == '}' || c == ']':
			depth--
		}
	}
	return list
}

// unknownToSchema lists what a script does with records and meta fields that the schema does not know.
func unknownToSchema(name, script string) (wrong []string) {
	for _, match := range quoted.FindAllStringSubmatch(script, -1) {
		if recordish.MatchString(match[1]) {
			if why := wrongPattern(match[1]); why != "" {
				wrong = append(wrong, name+": pattern "+match[1]+": "+why)
			}
		}
	}
	for _, match := range built.FindAllStringSubmatch(script, -1) {
		if n := len(argumentsOf(match[1] + ")")); n != recordFields {
			wrong = append(wrong, name+": writes a record of "+strconv.Itoa(n)+" fields")
		}
	}
	return append(wrong, unknownMeta(name, script)...)
}

func unknownMeta(name, script string) (wrong []string) {
	own, known, read := "", map[string]bool{}, 0
	for _, f := range metaSchema() {
		known[f.name] = true
	}
	if match := metaKey.FindStringSubmatch(script); match != nil {
		own = "KEYS[" + match[1] + "]"
	}
	for _, at := range hashCall.FindAllStringSubmatchIndex(script, -1) {
		command, key := script[at[2]:at[3]], script[at[4]:at[5]]
		if key != own && key != "meta" {
			continue
		}
		args := argumentsOf(script[at[1]:])
		step := map[string]int{"HSET": 2, "HINCRBY": 2}[command]
		for i := 0; i < len(args); i += max(step, 1) {
			if field := strings.Trim(args[i], "'"); !known[field] || !strings.HasPrefix(args[i], "'") {
				wrong = append(wrong, name+": meta has no field "+args[i])
			}
		}
		if command == "HMGET" {
			read = len(args)
		}
	}
	for _, match := range metaIndex.FindAllStringSubmatch(script, -1) {
		if n, _ := strconv.Atoi(match[1]); n > read {
			wrong = append(wrong, name+": "+match[0]+" was not read")
		}
	}
	return wrong
}

func TestEveryScriptFollowsTheSchema(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(os.DirFS("lua"), "*.lua")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	patterns, written, metas := 0, 0, 0
	for _, name := range names {
		text, err := os.ReadFile("lua/" + name)
		require.NoError(t, err)
		require.Empty(t, unknownToSchema(name, string(text)))
		for _, match := range quoted.FindAllStringSubmatch(string(text), -1) {
			if recordish.MatchString(match[1]) {
				patterns++
			}
		}
		written += len(built.FindAllString(string(text), -1))
		metas += len(hashCall.FindAllString(string(text), -1))
	}
	require.Greater(t, patterns, 20, "patterns are found")
	require.GreaterOrEqual(t, written, 4, "records that are written are found")
	require.Greater(t, metas, 40, "uses of meta are found")
}

func TestAScriptThatLeavesTheSchemaIsNamed(t *testing.T) {
	t.Parallel()
	head := "-- KEYS  1 meta  2 orders\n"
	for code, why := range map[string]string{
		`string.match(r, '^%a\t([^\t]*)\t')`:                                 "is no seq",
		`string.match(r, '^%a\t%d+\t%d+\t%d+\t(%d+)\t')`:                     "is no user",
		`string.match(r, '^q` + strings.Repeat(`\t[^\t]*`, 16) + `')`:        "is no seq",
		`table.concat({'q', a, b, c}, '\t')`:                                 "4 fields",
		`redis.call('HMGET', KEYS[1], 'epoch', 'gait')`:                      "no field 'gait'",
		`redis.call('HSET', KEYS[1], 'seq', int(max(a, b)), 'claims', '0')`:  "no field 'claims'",
		`redis.call('HINCRBY', meta, 'revision', 1)`:                         "no field 'revision'",
		"local meta = redis.call('HMGET', KEYS[1], 'epoch')\nreturn meta[2]": "meta[2] was not read",
	} {
		found := unknownToSchema("one", head+code)
		require.Len(t, found, 1, code)
		require.Contains(t, found[0], why)
	}
	require.Empty(t, unknownToSchema("one", head+`redis.call('HSET', KEYS[2], 'any', 'thing')`))
}

// A field that says r is a refund only in its own place.
func TestOnlyTheSixteenthFieldIsARefund(t *testing.T) {
	t.Parallel()
	full := Ticket{ID: "a", User: "u", State: Confirmed, Seq: 1, Units: 1, Slot: 1, AdmittedAt: time.UnixMilli(1).UTC(),
		Fingerprint: "f", Phone: refundMark}
	for _, refund := range []bool{false, true} {
		full.Refund = refund
		got, err := ParseTicket("a", full.Record())
		require.NoError(t, err)
		require.Equal(t, refund, got.Refund)
		require.Equal(t, refundMark, got.Phone)
	}
	old := strings.Join(strings.Split(full.Record(), "\t")[:oldFields], "\t")
	require.True(t, strings.HasSuffix(old, "\t"+refundMark))
	got, err := ParseTicket("a", old)
	require.NoError(t, err)
	require.False(t, got.Refund)
	_, err = ParseTicket("a", full.Record()+"\t"+refundMark)
	require.Error(t, err)
	_, err = ParseTicket("a", strings.TrimSuffix(full.Record(), refundMark)+"s")
	require.Error(t, err)
}

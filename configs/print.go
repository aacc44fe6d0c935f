package configs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

const mask = "********"

// Print writes every key with its value and source, secrets masked. It writes lines, or one JSON object of
// {"value","source"} by key.
func (l *Loaded) Print(w io.Writer, asJSON bool) error {
	type entry struct {
		Value  any    `json:"value"`
		Source string `json:"source"`
	}
	root := reflect.ValueOf(l.Config)
	if asJSON {
		all := make(map[string]entry, len(l.schema.keys))
		for _, k := range l.schema.keys {
			all[k.path] = entry{k.Visible(root.FieldByIndex(k.index).Interface()), l.sources[k.path]}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, k := range l.schema.keys {
		value, err := json.Marshal(k.Visible(root.FieldByIndex(k.index).Interface()))
		if err != nil {
			return fmt.Errorf("%s: %w", k.path, err)
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", k.path, value, l.sources[k.path]); err != nil {
			return err
		}
	}
	return table.Flush()
}

// Visible returns the value for display: durations as text, secrets masked.
func (k Key) Visible(value any) any {
	switch v := value.(type) {
	case time.Duration:
		return v.String()
	case string:
		switch {
		case strings.HasSuffix(k.path, "dsn"):
			return maskDSN(v)
		case k.secret && v != "":
			return mask
		}
		return maskURL(v)
	case []string:
		out := make([]string, len(v))
		for i, text := range v {
			out[i] = maskURL(text)
			if k.secret {
				out[i] = mask
			}
		}
		return out
	case map[string]string:
		// Names of headers and the like may be shown; their values may be tokens.
		out := make(map[string]string, len(v))
		for name := range v {
			out[name] = mask
		}
		return out
	}
	if v := reflect.ValueOf(value); k.secret && v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.Struct {
		return visibleSections(v)
	}
	return value
}

// visibleSections shows sections in which some values are secret by the names of their keys, without those not set.
func visibleSections(sections reflect.Value) map[string]any {
	shown := make(map[string]any, sections.Len())
	for name, section := range sections.Seq2() {
		shown[name.String()] = visibleSection(section)
	}
	return shown
}

func visibleSection(section reflect.Value) map[string]any {
	shown := map[string]any{}
	for name, i := range fieldsOf(section.Type()) {
		field, value := section.Type().Field(i), section.Field(i)
		switch {
		case value.IsZero():
		case value.Kind() == reflect.Struct:
			shown[name] = visibleSection(value)
		default:
			shown[name] = Key{path: name, secret: isSecret(name, field.Tag)}.Visible(value.Interface())
		}
	}
	return shown
}

// maskURL hides the password in a URL and leaves other text alone.
func maskURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return text
	}
	if _, ok := u.User.Password(); !ok {
		return text
	}
	return u.Redacted()
}

var (
	mysqlDSN     = regexp.MustCompile(`^([^:@/]*):(.*)(@[a-z0-9]*\(?[^@]*)$`)
	passwordPair = regexp.MustCompile(`(?i)(pass(?:word|wd)?|pwd|key)\s*=`)
)

// maskDSN hides the password in a data source name. It hides a name of unknown form as a whole if that could contain a
// password.
func maskDSN(dsn string) string {
	if passwordPair.MatchString(dsn) {
		return mask
	}
	if strings.Contains(dsn, "://") {
		if _, err := url.Parse(dsn); err != nil {
			return mask
		}
		return maskURL(dsn)
	}
	if m := mysqlDSN.FindStringSubmatch(dsn); m != nil {
		return m[1] + ":" + mask + m[3]
	}
	if strings.Contains(dsn, "@") {
		return mask
	}
	return dsn
}

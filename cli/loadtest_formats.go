package cli

import (
	"encoding/json"
	"strings"
)

// target is one user's order. Its idempotency key names user and sale, so a
// list that is sent twice orders once.
type target struct {
	User  string `json:"user"`
	Token string `json:"token"`
	Key   string `json:"key"`
}

// orderBody is what each target orders.
const orderBody = `{"quantity":1}`

// targetFormat returns the function that writes one target as a line for a load tester.
func targetFormat(name string) (func(*targets, target) (string, error), error) {
	switch name {
	case "k6":
		return k6Target, nil
	case "vegeta":
		return vegetaTarget, nil
	case "wrk":
		return wrkTarget, nil
	}
	return nil, badUsage("--format knows k6, vegeta and wrk, got %q", name)
}

func k6Target(_ *targets, one target) (string, error) {
	text, err := json.Marshal(one)
	return string(text), err
}

// vegetaTarget follows vegeta's lib/target.schema.json; a []byte becomes the
// base64 that it asks for.
func vegetaTarget(t *targets, one target) (string, error) {
	text, err := json.Marshal(struct {
		Method string              `json:"method"`
		URL    string              `json:"url"`
		Header map[string][]string `json:"header"`
		Body   []byte              `json:"body"`
	}{"POST", t.base + t.path(), map[string][]string{
		"Authorization": {"Bearer " + one.Token}, "Content-Type": {"application/json"},
		"Idempotency-Key": {`"` + one.Key + `"`},
	}, []byte(orderBody)})
	return string(text), err
}

func wrkTarget(t *targets, one target) (string, error) {
	return strings.Join([]string{t.path(), one.Token, one.Key, orderBody}, "\t"), nil
}

package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/model"
)

func TestReportSaysWhatIsNotAsItMustBe(t *testing.T) {
	t.Parallel()
	sound := model.Instance{Name: "failover", Says: "a failover with loss"}
	fault := model.Instance{Name: "no fence", Says: "no comparison", Broken: true}
	violated := model.Result{States: 12, Took: time.Second, Violation: "assertion violated x",
		Steps: []string{"Admit 0 0"}}
	for _, c := range []struct {
		name string
		i    model.Instance
		r    model.Result
		err  error
		fine bool
		says string
	}{
		{"sound", sound, model.Result{States: 9}, nil, true, "holds"},
		{"violated", sound, violated, nil, false, "WRONG"},
		{"found", fault, violated, nil, true, "found"},
		{"not found", fault, model.Result{States: 9}, nil, false, "WRONG"},
		{"not checked", fault, model.Result{}, errors.New("no spin"), false, "no spin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			require.Equal(t, c.fine, report(&out, c.i, c.r, c.err, false))
			require.Contains(t, out.String(), c.says)
		})
	}
	var out bytes.Buffer
	require.True(t, report(&out, fault, violated, nil, true))
	require.Contains(t, out.String(), "Admit 0 0")
}

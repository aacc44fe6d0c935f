package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	cleanAudit = `{"clean":true,"sales":[{"sale":"summer","total":500,"available":0,"live":500,"clean":true}]}`
	leakAudit  = `{"clean":false,"sales":[{"sale":"summer","total":500,"available":10,"live":480,"line_stock":3,"in_flight":4,"difference":3,` +
		`"problems":["10 units leaked","look"],"clean":false},{"sale":"night","clean":true}]}`
)

func TestAudit(t *testing.T) {
	t.Parallel()
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("sale") == "summer" {
			_, _ = io.WriteString(w, cleanAudit)
			return
		}
		_, _ = io.WriteString(w, leakAudit)
	})
	got := sluice(t, env, "audit", "--sale", "summer", ops)
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Regexp(t, `^SALE +TOTAL +AVAILABLE +LIVE +LINE STOCK +IN FLIGHT +DIFFERENCE +PROBLEMS\nsummer +500 +0 +500 +0 +0 +0 +0\nclean\n$`, got.out)
	require.Empty(t, got.err)

	got = sluice(t, env, "audit", ops)
	require.Equal(t, exitFailure, got.code)
	require.Regexp(t, `\nsummer +500 +10 +480 +3 +4 +3 +2\nnight .*\nsummer: 10 units leaked\nsummer: look\nNOT CLEAN\n$`, got.out)
	require.Equal(t, "sluice: the audit is not clean: summer\n", got.err)

	got = sluice(t, env, "audit", "--json", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, leakAudit+"\n", got.out)
	got = sluice(t, env, "audit", "--json", "--sale", "summer", ops)
	require.Equal(t, outcome{exitSuccess, cleanAudit + "\n", ""}, got)
}

func TestAuditWatchEndsOnADifference(t *testing.T) {
	t.Parallel()
	answers := make(chan string, 2)
	answers <- cleanAudit
	answers <- leakAudit
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, <-answers) })
	got := sluice(t, env, "audit", "--watch", "--json", ops)
	require.Equal(t, exitFailure, got.code)
	require.Equal(t, cleanAudit+"\n"+leakAudit+"\n", got.out)
}

func TestAuditWatchIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, cleanAudit) })
	out := &watchedWriter{text: "clean", seen: cancel}
	var errs bytes.Buffer
	require.Equal(t, exitSuccess, run(ctx, []string{"audit", "--watch", ops}, env, out, &errs))
	require.Empty(t, errs.String())
}

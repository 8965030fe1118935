package main

import (
	"strings"
	"testing"
)

const output = `goos: linux
pkg: pacer/executor
BenchmarkLaunch/none-2   	     500	         5.90 p99-ms	         1.50 p50-ms
pkg: pacer/healthcheck
BenchmarkHTTP/probe-2         	   10000	    120000 ns/op	       146.0 us-cpu/op	    3300 B/op	      30 allocs/op
BenchmarkOther
BenchmarkOther-2         	   10000	    7 ns/op
PASS
ok  	pacer/healthcheck	3.4s
`

func TestRun_PrintsBudgetsBesideFigures(t *testing.T) {
	var out, progress strings.Builder
	failed, err := run(strings.NewReader(output), &out, &progress)
	if err != nil || failed {
		t.Fatalf("failed %v, %v", failed, err)
	}
	if progress.String() != output {
		t.Error("the output was not passed on")
	}
	for _, want := range []string{"5.90 ms", "10 ms", "146 us", "13 ms (Mesos forks curl)", "executor Launch/none", "1.50 p50-ms", "healthcheck Other", "not measured here"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "B/op") {
		t.Errorf("allocations are in the table:\n%s", out.String())
	}
}

func TestRun_FailsWhenABenchmarkDid(t *testing.T) {
	var out, progress strings.Builder
	if failed, err := run(strings.NewReader(output+"--- FAIL: BenchmarkX\nFAIL\n"), &out, &progress); err != nil || !failed {
		t.Errorf("failed %v, %v", failed, err)
	}
}

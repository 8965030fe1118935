package faults

import (
	"fmt"
	"os"
	"testing"

	"pacer/integration/binaries"
	"pacer/integration/zookeeper"
)

// program is the executor's binary, built once.
var program string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	built, err := binaries.Build(binaries.Executor)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer built.Remove()
	program = built.Path(binaries.Executor)
	return zookeeper.Main(m)
}

package faults

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"pacer/integration/binaries"
	"pacer/integration/zookeeper"
)

// program is the executor's binary, built once.
var program string

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

type suite struct{ m *testing.M }

func (s suite) Run() int {
	built, err := binaries.Build(binaries.Executor)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer built.Remove()
	program = built.Path(binaries.Executor)
	return zookeeper.Main(s.m)
}

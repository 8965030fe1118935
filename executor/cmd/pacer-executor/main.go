// Command pacer-executor runs tasks for Mesos: one process for all tasks of its
// agent. The agent starts it; its settings are environment variables (see
// --help). It ends when the agent says so, or at SIGTERM and SIGINT, which are
// the same to it.
//
// Exit codes: 0 when every task has ended and every status is acknowledged, 1
// when something was in the way of that, 2 when a setting is missing or wrong.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"pacer/executor/process"
)

// version is set by the linker.
var version = "unknown"

const (
	exitFailure  = 1
	exitSettings = 2
)

func main() {
	process.RunShim()
	protect()
	var flags struct {
		Version kong.VersionFlag `help:"Print the version and exit."`
	}
	parser := kong.Must(&flags, kong.Name("pacer-executor"), kong.Description(help), kong.Vars{"version": version})
	if _, err := parser.Parse(os.Args[1:]); err != nil {
		complain(exitSettings, err)
	}
	settings, err := settingsFromEnv(os.Getenv, os.Unsetenv)
	if err != nil {
		complain(exitSettings, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, settings, os.Stderr); err != nil {
		complain(exitFailure, err)
	}
}

// complain prints each problem on a line of its own and exits.
func complain(code int, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(os.Stderr, "pacer-executor: "+line)
	}
	os.Exit(code)
}

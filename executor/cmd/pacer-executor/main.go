// Command pacer-executor runs tasks for Mesos: one process for all tasks of its
// agent. The agent starts it; its settings are environment variables (see
// --help). It ends when the agent says so, or at SIGTERM and SIGINT, which are
// the same to it. At SIGQUIT it writes what its goroutines do to its log, and
// goes on.
//
// For people there are two commands: status shows what the executor of a sandbox
// does, and check tries whatever an executor with the same settings would need.
//
// Exit codes: 0 when every task has ended and every status is acknowledged, 1
// when something was in the way of that, 2 when a setting is missing or wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"pacer/executor/artifact"
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
	artifact.RunFetcher()
	protect()
	// Whole seconds, the default, do not tell what came first.
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := obey(ctx, os.Args[1:]); err != nil {
		if bad := new(settingsError); errors.As(err, &bad) {
			complain(exitSettings, bad.Unwrap())
		}
		complain(exitFailure, err)
	}
}

// obey does what the arguments say. Where an agent has started this process they
// say nothing: they are the command of a task (see executor.Config.Argv).
func obey(ctx context.Context, args []string) error {
	if os.Getenv("MESOS_EXECUTOR_ID") != "" {
		return execute(ctx, args)
	}
	parser := kong.Must(new(commands), kong.Name("pacer-executor"), kong.Description(help), kong.Vars{"version": version})
	command, err := parser.Parse(args)
	if err != nil {
		return &settingsError{err}
	}
	command.BindTo(ctx, (*context.Context)(nil))
	return command.Run()
}

// complain prints each problem on a line of its own and exits.
func complain(code int, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(os.Stderr, "pacer-executor: "+line)
	}
	os.Exit(code)
}

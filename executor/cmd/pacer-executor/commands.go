package main

import (
	"context"
	"encoding/json"
	"os"
	"os/user"
	"time"

	"github.com/alecthomas/kong"

	"pacer/executor/status"
)

// commands are what the command line can ask for.
type commands struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Run    runCommand    `cmd:"" default:"1" help:"Run tasks for the agent that starts this (the default)."`
	Status statusCommand `cmd:"" help:"Show what the executor of a sandbox does."`
	Check  checkCommand  `cmd:"" help:"Try what an executor with these settings needs; exit code 1 where something is missing."`
}

type runCommand struct{}

// Run runs the executor.
func (runCommand) Run(ctx context.Context) error { return execute(ctx, nil) }

// execute runs the executor with the arguments that a task may need.
func execute(ctx context.Context, args []string) error {
	s, err := settingsFromEnv(os.Getenv, os.Unsetenv)
	if err != nil {
		return err
	}
	s.executor.Argv, s.executor.Environment = args, os.Environ()
	if me, err := user.Current(); err == nil {
		s.executor.OwnUser = me.Username
	}
	// Whoever passes a task's command this way starts an executor for each.
	s.executor.OneTask = s.executor.OneTask || len(args) > 0
	return run(ctx, s, os.Stderr)
}

type statusCommand struct {
	Sandbox string `arg:"" help:"Directory that Mesos made for the executor: .../executors/ID/runs/latest."`
	JSON    bool   `help:"Print the report as JSON."`
}

// Run prints a report.
func (c statusCommand) Run(ctx context.Context) error {
	report, err := status.Read(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	return report.Print(os.Stdout, time.Now())
}

type checkCommand struct{}

// Run prints a line for each part.
func (checkCommand) Run(ctx context.Context) error {
	return check(ctx, os.Getenv, os.Stdout)
}

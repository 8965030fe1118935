package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"pacer/scheduler/app"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

const defaultURL = "http://127.0.0.1:8080"

// commandLine is the grammar.
type commandLine struct {
	URL         string           `help:"Address of the scheduler's API ($$PACER_URL)." default:"${url}" placeholder:"URL"`
	Credentials string           `name:"credentials-file" help:"File with a bearer token or name:password ($$PACER_CREDENTIALS_FILE)." default:"${credentials}" placeholder:"FILE"`
	CA          string           `name:"ca-file" help:"PEM file with the certificates that the API's is trusted by, instead of the system's ($$PACER_CA_FILE)." default:"${ca}" placeholder:"FILE"`
	JSON        bool             `name:"json" help:"Print JSON instead of text."`
	Version     kong.VersionFlag `help:"Print the version and exit."`

	Apply  applyCommand  `cmd:"" help:"Create or change an app."`
	List   listCommand   `cmd:"" help:"List all apps."`
	Show   showCommand   `cmd:"" help:"Show an app, its instances, and why some wait."`
	Scale  scaleCommand  `cmd:"" help:"Change the number of an app's instances."`
	Delete deleteCommand `cmd:"" help:"Delete an app and end its instances."`
}

// forceFlag is of commands that a running deployment of the app hinders.
type forceFlag struct {
	Force bool `help:"End a running deployment of the app instead of being refused."`
}

// waitFlags are those of commands that start a deployment.
type waitFlags struct {
	Wait    bool          `help:"Wait until the deployment has ended, and fail if it fails."`
	Timeout time.Duration `help:"How long to wait." default:"10m"`
}

// session is what commands work with.
type session struct {
	ctx    context.Context
	api    *client
	json   bool
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// usageError is a mistake on the command line or in a file.
type usageError struct{ error }

func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Run runs one command and returns its exit code. getenv is os.Getenv.
func Run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := run(ctx, args, getenv, stdin, stdout, stderr)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "pacer: "+oneLine(err.Error()))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	var (
		line   commandLine
		exited bool
	)
	address := getenv("PACER_URL")
	if address == "" {
		address = defaultURL
	}
	parser, err := kong.New(&line,
		kong.Name("pacer"),
		kong.Description("Runs services on Apache Mesos."),
		kong.Vars{"version": version, "url": address, "credentials": getenv("PACER_CREDENTIALS_FILE"), "ca": getenv("PACER_CA_FILE")},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), // after --help and --version
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	switch {
	case exited:
		return nil
	case err != nil:
		return usageError{err}
	}
	base, err := apiAddress(line.URL)
	if err != nil {
		return err
	}
	authorization, err := readCredentials(line.Credentials)
	if err != nil {
		return err
	}
	trusted, err := readCA(line.CA)
	if err != nil {
		return err
	}
	api := newClient(base, authorization, trusted)
	defer api.close()
	return command.Run(&session{ctx: ctx, api: api, json: line.JSON, stdin: stdin, stdout: stdout, stderr: stderr})
}

func apiAddress(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, misused("--url is %q: expected http://host:port or https://host:port", text)
	}
	return base, nil
}

// appID reads an ID from the command line; its first slash may be left out.
func appID(text string) (string, error) {
	id := app.CanonicalID(text)
	if err := app.CheckID(id); err != nil {
		return "", misused("ID %q %w", text, err)
	}
	return id, nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

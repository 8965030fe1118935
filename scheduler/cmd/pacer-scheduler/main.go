package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := start(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// start is main with an exit code.
func start(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == "state" {
		if err := runTools(ctx, args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, "pacer-scheduler state:", err)
			return 1
		}
		return 0
	}
	flags, err := parse(args, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "pacer-scheduler:", err)
		return 2
	case flags == nil: // --help and --version have answered
		return 0
	}
	if err := run(ctx, flags, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "pacer-scheduler:", err)
		return 1
	}
	return 0
}

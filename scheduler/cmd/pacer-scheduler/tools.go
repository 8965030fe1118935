package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"pacer/scheduler/leader"
	"pacer/scheduler/state"
)

// toolTimeout bounds the commands about a state.
const toolTimeout = 5 * time.Minute

// tools are the commands "pacer-scheduler state ...".
type tools struct {
	stateFlags

	Size   struct{} `cmd:"" help:"Print how many nodes and bytes there are of each kind, and the largest."`
	Export struct {
		Output string `short:"o" placeholder:"FILE" help:"File to write, with mode 0600. Default: standard output."`
	} `cmd:"" help:"Write a backup. It may hold the key that signs identities: keep it private."`
	Import struct {
		Input   string `short:"i" placeholder:"FILE" help:"File to read. Default: standard input."`
		Replace bool   `help:"Replace what the state holds. Default: refuse a state that is not empty."`
	} `cmd:"" help:"Restore a backup while no scheduler runs. Tasks that the backup does not know are left alone."`
}

// runTools does what the arguments behind "state" ask for.
func runTools(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) (err error) {
	var t tools
	command, err := parseTools(&t, args, out)
	if err != nil || command == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	log := zerolog.New(stderr).Level(zerolog.ErrorLevel)
	store, client, err := t.openState(hostname()+" state "+command, log)
	if err != nil {
		return err
	}
	defer closing(store, &err)
	switch command {
	case "size":
		return printSizes(ctx, store, out)
	case "export":
		return export(ctx, store, t.Export.Output, out, stderr)
	default:
		if client != nil {
			members, err := leader.New(client, leader.Member{}, log).Members(ctx)
			if err != nil {
				return err
			}
			if len(members) > 0 {
				return fmt.Errorf("%d schedulers run on this state, e.g. %s: stop all of them first", len(members), members[0].API)
			}
		}
		return restore(ctx, store, t.Import.Input, t.Import.Replace, in, stderr)
	}
}

// parseTools returns the command, "" when help was asked for and printed.
func parseTools(t *tools, args []string, out io.Writer) (command string, err error) {
	parser, err := kong.New(t,
		kong.Name("pacer-scheduler state"),
		kong.Description("Measures, backs up and restores the state of schedulers."),
		kong.DefaultEnvars("PACER"),
		kong.Writers(out, out),
		kong.Exit(func(int) { panic(errHelped) }),
	)
	if err != nil {
		return "", fmt.Errorf("define flags: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			if r != any(errHelped) {
				panic(r)
			}
			command, err = "", nil
		}
	}()
	parsed, err := parser.Parse(args)
	if err == nil {
		err = t.checkState()
	}
	if err != nil {
		return "", errors.New(oneLine(err.Error()))
	}
	return parsed.Command(), nil
}

func printSizes(ctx context.Context, store state.Store, out io.Writer) error {
	sizes, err := state.Sizes(ctx, store)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tNODES\tBYTES\tLARGEST\tBYTES")
	nodes, bytes := 0, 0
	for _, k := range sizes {
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%d\n", k.Kind, k.Nodes, k.Bytes, k.Largest, k.LargestBytes)
		nodes, bytes = nodes+k.Nodes, bytes+k.Bytes
	}
	fmt.Fprintf(table, "all\t%d\t%d\t\t\n", nodes, bytes)
	return table.Flush()
}

func export(ctx context.Context, store state.Store, name string, out, stderr io.Writer) (err error) {
	if name != "" {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		defer closing(file, &err)
		out = file
	}
	n, err := state.Export(ctx, store, out)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%d nodes exported\n", n)
	return nil
}

func restore(ctx context.Context, store state.Store, name string, replace bool, in io.Reader, stderr io.Writer) error {
	if name != "" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("--input: %w", err)
		}
		defer file.Close()
		in = file
	}
	n, err := state.Import(ctx, store, in, replace)
	if errors.Is(err, state.ErrNotEmpty) {
		return fmt.Errorf("%w: export it first, then import with --replace", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%d nodes imported; tasks that they do not tell of will be left alone\n", n)
	return nil
}

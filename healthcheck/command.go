package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

func command(ctx context.Context, c *Command, run Runner, started time.Time) Result {
	got, err := run(ctx, *c)
	r := Result{ExitCode: -1}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Reason, r.Message = ReasonTimeout, "command: timeout"
	case err != nil:
		r.Reason, r.Message = ReasonRun, "command could not be run: "+printable([]byte(err.Error()))
		return r
	case got.Signal != 0:
		r.Reason, r.Message = ReasonSignal, fmt.Sprintf("command: ended by signal %d", got.Signal)
	case got.ExitCode != 0:
		r.ExitCode = got.ExitCode
		r.Reason, r.Message = ReasonExitCode, fmt.Sprintf("command: exit code %d", got.ExitCode)
	default:
		r.ExitCode = 0
		r.Message = "command: exit code 0"
	}
	r.Message += after(started)
	if text := printable(got.Stderr); r.Reason != ReasonNone && text != "" {
		r.Message += ": " + text
	}
	return r
}

// printable returns the end of a text on one line.
func printable(text []byte) string {
	cut := len(text) > MaxStderr
	if cut {
		text = text[len(text)-MaxStderr:]
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(text), ""))
	clean = strings.Join(strings.Fields(clean), " ")
	if cut && clean != "" {
		clean = "..." + clean
	}
	return clean
}

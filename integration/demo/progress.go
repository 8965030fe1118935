package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress says what the demo does while it does it: a bar that is redrawn on
// a terminal, a line for each change elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	started  time.Time
	last     string
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, started: time.Now()}
}

func (p *progress) stamp() string { return fmt.Sprintf("%6.1fs  ", time.Since(p.started).Seconds()) }

// say prints a line of its own.
func (p *progress) say(format string, args ...any) {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.out, "\r\033[K")
	}
	p.last = ""
	fmt.Fprintf(p.out, p.stamp()+format+"\n", args...)
}

// show updates what a step waits for: done of all, and in words.
func (p *progress) show(done, all int, words string) {
	const width = 30
	line := fmt.Sprintf("[%d/%d] %s", done, all, words)
	if line == p.last {
		return
	}
	p.last = line
	if !p.terminal {
		fmt.Fprintln(p.out, p.stamp()+"  "+line)
		return
	}
	filled := 0
	if all > 0 {
		filled = min(width, width*done/all)
	}
	fmt.Fprintf(p.out, "\r\033[K%s  [%s%s] %s", p.stamp(), strings.Repeat("#", filled), strings.Repeat(".", width-filled), line)
}

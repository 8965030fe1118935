package main

import (
	"strings"
	"testing"
	"time"
)

func TestProgress_PrintsALineForEachChangeWithoutATerminal(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out, started: time.Now()}
	p.say("deploy")
	for range 3 {
		p.show(1, 5, "healthy")
	}
	p.show(5, 5, "healthy")
	if lines := strings.Count(out.String(), "\n"); lines != 3 {
		t.Errorf("%d lines, want 3:\n%s", lines, out.String())
	}
}

func TestProgress_RedrawsABarOnATerminal(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out, terminal: true, started: time.Now()}
	p.show(1, 5, "healthy")
	p.show(5, 5, "healthy")
	p.say("next")
	bars := strings.Split(out.String(), "\r\033[K")
	if len(bars) != 4 || !strings.Contains(bars[1], "[######....") || !strings.Contains(bars[2], "[##############################]") {
		t.Errorf("got %q", bars)
	}
	if strings.Contains(bars[3], "#") || !strings.HasSuffix(bars[3], "next\n") {
		t.Errorf("a line shares its place with the bar: %q", bars[3])
	}
}

package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script is a task whose answers are given in letters (s, f), the last one
// for ever; it notes when it was asked. Time is synctest's.
type script struct {
	answers string
	takes   time.Duration
	start   time.Time

	mu    sync.Mutex
	asked []time.Duration
}

func (s *script) run(ctx context.Context, _ Command) (CommandResult, error) {
	s.mu.Lock()
	i := min(len(s.asked), len(s.answers)-1)
	s.asked = append(s.asked, time.Since(s.start))
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return CommandResult{}, ctx.Err()
	}
	if s.answers[i] == 's' {
		return CommandResult{}, nil
	}
	return CommandResult{ExitCode: 7, Stderr: []byte("no\n")}, nil
}

// monitor runs a check against the script for a time and returns the events.
func (s *script) monitor(t *testing.T, d time.Duration, c Check, task Task) []string {
	t.Helper()
	c.Command = &Command{Shell: "check"}
	s.start = time.Now()
	if task.ID == "" {
		task.ID = "web.1"
	}
	if task.Run == nil {
		task.Run = s.run
	}
	m, err := NewMonitor(NewProber(0), c, task)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var events []string
	m.Run(ctx, func(e Event) {
		if ctx.Err() != nil {
			t.Errorf("event %v after the end", e)
		}
		events = append(events, fmt.Sprintf("%v %s %d/%d", time.Since(s.start), e.Kind, e.Failures, e.Limit))
	})
	if since := time.Since(s.start); since > d {
		t.Errorf("Run returned %v after the end of its context", since-d)
	}
	return events
}

const second = time.Second

// whole seconds of what was asked.
func (s *script) times() string {
	var list []string
	for _, a := range s.asked {
		list = append(list, a.String())
	}
	return strings.Join(list, " ")
}

func check(delay, interval, grace time.Duration, failures int) Check {
	c := Default()
	c.Delay, c.Interval, c.Grace, c.Failures = delay, interval, grace, failures
	return c
}

func TestMonitor_Timing(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers string
		takes   time.Duration
		check   Check
		lasts   time.Duration
		asked   string
		events  []string
	}{
		{
			name: "first after the delay, then each second, then at the interval", answers: "f", lasts: 30 * second,
			check: check(2*second, 10*second, 5*second, 3),
			asked: "2s 3s 4s 5s 15s 25s",
			events: []string{
				"15s unhealthy 1/3", "25s failure 2/3",
			},
		},
		{
			name: "the interval counts from the end of a probe", answers: "f", takes: 2 * second, lasts: 29 * second,
			check: check(0, 3*second, 0, 3),
			asked: "0s 5s 10s 15s 20s 25s",
			events: []string{
				"2s unhealthy 1/3", "7s failure 2/3", "12s threshold 3/3", "17s failure 4/3", "22s failure 5/3", "27s failure 6/3",
			},
		},
		{
			name: "no interval is the shortest", answers: "f", lasts: 350 * time.Millisecond,
			check:  check(0, 0, 0, 9),
			asked:  "0s 100ms 200ms 300ms",
			events: []string{"0s unhealthy 1/9", "100ms failure 2/9", "200ms failure 3/9", "300ms failure 4/9"},
		},
		{
			name: "a hanging check costs its timeout", answers: "f", takes: time.Hour, lasts: 61 * second,
			check:  check(0, 10*second, 0, 3),
			asked:  "0s 30s 1m0s",
			events: []string{"20s unhealthy 1/3", "50s failure 2/3"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: c.answers, takes: c.takes}
				events := s.monitor(t, c.lasts, c.check, Task{})
				if s.times() != c.asked {
					t.Errorf("asked at %s, want %s", s.times(), c.asked)
				}
				if diff := cmp.Diff(c.events, events); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestMonitor_ConfirmsWithinASecondAndThenKeepsTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: "sffff"}
		events := s.monitor(t, 60*second, check(0, 10*second, 0, 2), Task{})
		first := s.asked[1] // spread
		if want := spread("web.1", 10*second); first != want {
			t.Errorf("first pause of a healthy task: %v, want its part of the interval, %v", first, want)
		}
		want := []time.Duration{0, first, first + second, first + 11*second, first + 21*second}
		if diff := cmp.Diff(want, s.asked[:5]); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		wantEvents := []string{
			"0s healthy 0/2",
			fmt.Sprintf("%v unhealthy 1/2", first+second),
			fmt.Sprintf("%v threshold 2/2", first+11*second),
		}
		if diff := cmp.Diff(wantEvents, events[:3]); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestMonitor_AFlakeIsNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: "sfsfsfs"}
		events := s.monitor(t, 10*time.Minute, check(0, 10*second, 0, 1), Task{})
		if diff := cmp.Diff([]string{"0s healthy 0/1"}, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestMonitor_StopsAtOnceInTheMiddleOfAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: "f", takes: time.Hour}
		if events := s.monitor(t, 5*second, check(0, second, 0, 1), Task{}); len(events) != 0 {
			t.Errorf("events %v of a probe that was cut off", events)
		}
	})
}

func TestMonitor_ADayWithoutDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: "s"}
		s.monitor(t, 24*time.Hour, check(0, 10*second, 0, 1), Task{})
		if n := len(s.asked); n < 8640 || n > 8642 {
			t.Errorf("%d probes in a day at 10s, want 8641 or so", n)
		}
	})
}

func TestMonitor_AgeCountsFromTheStartOfTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: "f"}
		started := time.Now()
		time.Sleep(20 * second) // another check was set up meanwhile
		events := s.monitor(t, 5*second, check(15*second, 10*second, 10*second, 3), Task{Started: started})
		if diff := cmp.Diff([]string{"0s unhealthy 1/3"}, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// A failure that was found late, because too many probes were in the way, says
// nothing about the task.
func TestMonitor_LateFailuresDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProber(1)
		c := check(0, 10*second, 0, 1)
		c.Command = &Command{Shell: "check"}
		s := &script{answers: "f", start: time.Now()}
		var results []Result
		m, err := NewMonitor(p, c, Task{ID: "web.1", Run: s.run, Observe: func(r Result) { results = append(results, r) }})
		if err != nil {
			t.Fatal(err)
		}
		// Each keeps the only place for a tenth of a second.
		const crowd = 60
		hang := func(ctx context.Context, _ Command) (CommandResult, error) {
			<-ctx.Done()
			return CommandResult{}, ctx.Err()
		}
		var wg sync.WaitGroup
		for range crowd {
			wg.Go(func() { p.Probe(t.Context(), &c, hang, time.Now()) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*second)
		defer cancel()
		m.Run(ctx, func(e Event) { t.Errorf("event %+v", e) })
		wg.Wait()
		if len(results) != 1 || !results[0].Late || results[0].OK() {
			t.Errorf("results %+v, want one late failure", results)
		}
	})
}

// Tasks that hang cost their own timeout only: others are asked on time.
func TestMonitor_HangingTasksHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProber(DefaultConcurrency)
		c := check(0, second, 0, 3)
		c.Command = &Command{Shell: "check"}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		thresholds := 0
		for i := range 1000 {
			s := &script{answers: "f", takes: time.Hour, start: start}
			m, err := NewMonitor(p, c, Task{ID: fmt.Sprint("hangs.", i), Run: s.run})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				m.Run(ctx, func(e Event) {
					mu.Lock()
					defer mu.Unlock()
					if e.Kind == Threshold {
						thresholds++
					}
				})
			})
		}
		s := &script{answers: "s", start: start}
		m, err := NewMonitor(p, c, Task{ID: "answers.1", Run: s.run})
		if err != nil {
			t.Fatal(err)
		}
		m.Run(ctx, func(Event) {})
		wg.Wait()
		if n := len(s.asked); n < 200 {
			t.Errorf("a task that answers was asked %d times in 5 minutes at 1s, beside 1000 that hang", n)
		}
		if thresholds != 1000 {
			t.Errorf("%d of 1000 hanging tasks reached the threshold", thresholds)
		}
	})
}

func TestClock_NoticesThatItWasNotWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := watchClock(time.Now(), 8*second)
		time.Sleep(5 * second)
		if late := c.stop(); late != 0 {
			t.Errorf("late by %v when all went well", late)
		}
		c = watchClock(time.Now(), 8*second)
		c.timer.Stop() // as if the process had been stopped
		time.Sleep(5 * second)
		c.tick()
		if late := c.stop(); late != 4*second {
			t.Errorf("late by %v, want 4s: five less a step", late)
		}
	})
}

func TestMonitor_Snooze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), SnoozeFile)
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		write("35s")
		s := &script{answers: "f"}
		events := s.monitor(t, 45*second, check(0, 10*second, 0, 1), Task{SnoozeFile: file})
		want := []string{"0s snoozed 0/1", "40s unhealthy 1/1", "40s threshold 1/1"}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestSnoozeFile(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name, text string
		want       time.Duration // from now; 0 is none
		bad        bool
	}{
		{name: "empty", text: "", want: DefaultSnooze},
		{name: "duration", text: "30m\n", want: 30 * time.Minute},
		{name: "time", text: now.Add(time.Minute).Format(time.RFC3339), want: time.Minute},
		{name: "expired", text: now.Add(-time.Minute).Format(time.RFC3339)},
		{name: "nothing", text: "0s"},
		{name: "longer than allowed", text: "1000h", want: MaxSnooze},
		{name: "much longer than allowed", text: "9999-01-01T00:00:00Z", want: MaxSnooze},
		{name: "negative", text: "-5m", bad: true},
		{name: "nonsense", text: "tomorrow", bad: true},
		{name: "long nonsense", text: strings.Repeat("x", 1<<20), bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), SnoozeFile)
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, now, now); err != nil {
				t.Fatal(err)
			}
			until, err := snoozedUntil(file, now)
			var got time.Duration
			if !until.IsZero() {
				got = until.Sub(now)
			}
			if got != c.want || (err != nil) != c.bad {
				t.Errorf("snoozed for %v, error %v; want %v, error: %v", got, err, c.want, c.bad)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		if until, err := snoozedUntil(filepath.Join(t.TempDir(), "none"), now); !until.IsZero() || err != nil {
			t.Errorf("%v, %v", until, err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		if until, err := snoozedUntil(t.TempDir(), now); !until.IsZero() || err == nil {
			t.Errorf("%v, %v, want an error", until, err)
		}
	})
}

func FuzzSnooze(f *testing.F) {
	for _, s := range []string{"", "30m", "2006-01-02T15:04:05Z", "-1h", "1e9h", "9999999h"} {
		f.Add(s)
	}
	now := time.Unix(1_900_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		until, err := parseSnooze(text, now)
		if err != nil && !until.IsZero() {
			t.Errorf("%v with error %v", until, err)
		}
	})
}

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		name    string
		result  CommandResult
		err     error
		hang    bool
		want    Reason
		message string
	}{
		{"0", CommandResult{}, nil, false, ReasonNone, "exit code 0"},
		{"exit code with the end of stderr", CommandResult{ExitCode: 3, Stderr: []byte("\x1b[31mno\tdisk\n\nleft\xff\n")}, nil, false, ReasonExitCode, ": [31mno disk left"},
		{"long stderr", CommandResult{ExitCode: 1, Stderr: []byte(strings.Repeat("x", 10_000))}, nil, false, ReasonExitCode, ": ..." + strings.Repeat("x", MaxStderr)},
		{"signal", CommandResult{ExitCode: -1, Signal: 9}, nil, false, ReasonSignal, "signal 9"},
		{"not run", CommandResult{}, errors.New("no such directory"), false, ReasonRun, "no such directory"},
		{"timeout", CommandResult{}, nil, true, ReasonTimeout, "timeout after 20s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chk := Default()
				chk.Command = &Command{Shell: "check"}
				r := NewProber(0).Probe(t.Context(), &chk, func(ctx context.Context, cmd Command) (CommandResult, error) {
					if c.hang {
						<-ctx.Done()
						return CommandResult{}, ctx.Err()
					}
					return c.result, c.err
				}, time.Now())
				if r.Reason != c.want || !strings.Contains(r.Message, c.message) || len(r.Message) > MaxStderr+100 {
					t.Errorf("reason %q, message %q, want %q and a message with %q", r.Reason, r.Message, c.want, c.message)
				}
			})
		})
	}
}

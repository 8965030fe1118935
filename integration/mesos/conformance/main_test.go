package conformance

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// summaryVariable names a file that gets the report.
const summaryVariable = "PACER_CONFORMANCE_SUMMARY"

func TestMain(m *testing.M) {
	if isProbe(os.Args) {
		os.Exit(runProbe(os.Args[2]))
	}
	if isEater(os.Args) {
		os.Exit(runEater(os.Args[2]))
	}
	// Scenarios wait most of the time, so that processors do not limit how many may
	// run side by side.
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	fmt.Println(&tally)
	if path := os.Getenv(summaryVariable); path != "" {
		if err := os.WriteFile(path, []byte(tally.String()+"\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		// Connections that streams were read from end a little after the streams.
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tally counts the numbered assertions. Recordings do not count: one that differs fails
// the run.
var tally score

// score counts assertions by their fate.
type score struct {
	mu      sync.Mutex
	passed  int
	skipped []string // why
	pending []string
}

// String lists what was not tried and why; its last line has the numbers.
func (s *score) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for fate, reasons := range map[string][]string{"skipped": s.skipped, "pending": s.pending} {
		for _, reason := range reasons {
			lines = append(lines, fate+" "+reason+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "") +
		fmt.Sprintf("%d assertions passed, %d skipped, %d pending", s.passed, len(s.skipped), len(s.pending))
}

func (s *score) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed++
}

func (s *score) skip(number int, reason string) { s.note(&s.skipped, number, reason) }
func (s *score) pend(number int, reason string) { s.note(&s.pending, number, reason) }

func (s *score) note(what *[]string, number int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what = append(*what, fmt.Sprintf("%02d: %s", number, reason))
}

// within is the longest wait for anything that should happen at once, generous
// because many scenarios share few processors.
const within = 15 * time.Second

package conformance

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// summaryVariable names a file that gets the last line of the report.
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
		if err := goleak.Find(goleak.IgnoreCurrent()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tally counts the assertions of all suites of this package.
var tally score

// score counts assertions by their fate.
type score struct {
	mu      sync.Mutex
	passed  int
	skipped int
	pending int
}

func (s *score) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%d assertions passed, %d skipped, %d pending", s.passed, s.skipped, s.pending)
}

func (s *score) pass(n int) { s.add(&s.passed, n) }
func (s *score) skip(n int) { s.add(&s.skipped, n) }
func (s *score) pend(n int) { s.add(&s.pending, n) }

func (s *score) add(what *int, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what += n
}

// asserted counts a test as one assertion when it ends, unless it failed.
func asserted(t *testing.T) {
	t.Cleanup(func() {
		switch {
		case t.Failed():
		case t.Skipped():
			tally.skip(1)
		default:
			tally.pass(1)
		}
	})
}

// within is the longest wait for anything that should happen at once, generous
// because many scenarios share few processors.
const within = 15 * time.Second

package conformance_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/conformance"
	"pacer/integration/mesos/wire"
)

// The assertions run on the emulator unless these variables name a real cluster.
const (
	// masterVariable is the URL of the leading master, http://host:port.
	masterVariable = "PACER_TEST_MASTER"
	// agentVariable is the URL of the agent to use, http://host:port. Without it,
	// the first that is offered.
	agentVariable = "PACER_TEST_AGENT"
)

// assertion is one numbered statement about Mesos. The numbers are those of the
// contract that the emulator was written from and never change.
type assertion struct {
	number int
	title  string
	// only, when set, says what only the emulator can do for this assertion. It is
	// the reason for skipping it on a real cluster.
	only string
	// pending, when set, says what has to be done before Pacer passes. It is
	// then not tried.
	pending string
	// emulate changes the emulated cluster: its flags.
	emulate func(*emulator.Config)
	// encodings are the content types to try; none stands for protobuf.
	encodings []wire.ContentType
	// slow assertions take more than 5 s and are begun first.
	slow bool
	test func(*world)

	unfit string // why the test gave up while it ran
}

// Reasons for which an assertion runs on the emulator only.
const (
	killsAgents  = "it kills or stops agents, which this test can do only to emulated ones"
	stopsMasters = "it needs a master that does not lead, which only the emulator provides at will"
	needsTokens  = "it needs an agent with --authenticate_http_executors"
)

var (
	inBoth = []wire.ContentType{wire.JSON, wire.Protobuf}
)

// assertions are all of them.
func assertions() []assertion {
	return slices.Concat(
		executorEndpoint, environment, delivery, updates, resubscription, kills, ends, agentRestart,
		schedulerEndpoint, identity, accepts, offering, tasks, agentLoss, clients,
		operator, checks, quantities,
	)
}

// atOnce is how many assertions run at the same time. They wait most of the time.
const atOnce = 12

func TestAssertions(t *testing.T) {
	if os.Getenv(masterVariable) == "" {
		t.Parallel()
	}
	t.Cleanup(pacer.remove)
	all := assertions()
	slices.SortStableFunc(all, func(a, b assertion) int {
		switch {
		case a.slow == b.slow:
			return a.number - b.number
		case a.slow:
			return -1
		}
		return 1
	})
	workers := atOnce
	if os.Getenv(masterVariable) != "" {
		workers = 1 // frameworks would compete for offers
	}
	queue := make(chan assertion)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for a := range queue {
				t.Run(fmt.Sprintf("%02d %s", a.number, a.title), a.run)
			}
		})
	}
	for _, a := range all {
		queue <- a
	}
	close(queue)
	group.Wait()
}

// TestAssertionsAreComplete holds the table to the numbers 1 to 95.
func TestAssertionsAreComplete(t *testing.T) {
	seen := make(map[int]bool)
	for _, a := range assertions() {
		if seen[a.number] {
			t.Errorf("%d is there twice", a.number)
		}
		seen[a.number] = true
		if a.title == "" || a.test == nil {
			t.Errorf("%d has no title or no test", a.number)
		}
	}
	const last = 95
	for n := 1; n <= last; n++ {
		if !seen[n] {
			t.Errorf("%d is missing", n)
		}
	}
	if len(seen) != last {
		t.Errorf("%d assertions, want %d", len(seen), last)
	}
}

// run tries the assertion in each of its encodings and counts it once.
func (a assertion) run(t *testing.T) {
	if a.only != "" && os.Getenv(masterVariable) != "" {
		conformance.Skip(a.number, a.only)
		t.Skip(a.only)
	}
	if a.pending != "" {
		conformance.Pend(a.number, a.pending)
		t.Skip("pending: " + a.pending)
	}
	t.Cleanup(func() {
		switch {
		case t.Failed():
		case a.unfit != "":
			conformance.Skip(a.number, a.unfit)
		default:
			conformance.Pass()
		}
	})
	if len(a.encodings) == 0 {
		a.test(newWorld(t, &a, wire.Protobuf))
	}
	for _, encoding := range a.encodings {
		_, name, _ := strings.Cut(string(encoding), "/")
		t.Run(strings.TrimPrefix(name, "x-"), func(t *testing.T) { a.test(newWorld(t, &a, encoding)) })
	}
}

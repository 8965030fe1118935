package conformance

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	emulator "pacer/integration/mesos"
)

// player plays one recording against the emulator. Its methods are called by the
// test's goroutine; what arrives from elsewhere is guarded by mu.
type player struct {
	t        *testing.T
	scenario *scenario
	file     string
	lines    []*line
	bound    *bindings
	used     map[*tolerance]int
	played   map[int]bool // lines that were played before their turn

	ctx    context.Context // of all exchanges
	cancel context.CancelFunc
	group  sync.WaitGroup

	cluster *emulator.Cluster         // the one of the last master that was started
	all     []*emulator.Cluster       // in the order of their start
	nodes   map[string]*emulator.Node // by the name that the recording gives them
	flags   []string                  // of the agent that is being started
	stage   *stage                    // what executors and fetchers talk to

	full         map[string]any // the first complete ExecutorInfo of the file
	zookeeper    *ensemble      // nil without
	masterListen string         // where the first of several masters will be
	target       string         // the agent that the operator talks to, "" for the master
	postponed    func() error   // starts what the recording has started, see startLater
	spare        []string       // processes that the executor was made to leave behind
	lastLength   int            // of the data that the last answer had

	differences int       // that have been reported
	zero        time.Time // when the recording began
	done        time.Time // when the line before had been played
	offered     time.Time // when the last exact offer came
	acted       *line     // the last line that sent or did something
	actedAt     time.Time

	mu      sync.Mutex
	changed chan struct{} // closed when something has arrived
	streams map[string]*stream
	retired []*stream  // whose label has been used again
	apart   []*arrival // offers that takeLess has found
	calls   map[string][]*call
	polls   map[string]*poll
}

// play plays the recording of a scenario that is in a file. Failures end the test at once: what follows would
// not make sense.
func play(t *testing.T, s *scenario, path string) {
	lines, err := readRecording(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{
		t: t, scenario: s, file: filepath.Base(path), lines: lines, bound: newBindings(),
		used:    make(map[*tolerance]int),
		played:  make(map[int]bool),
		nodes:   make(map[string]*emulator.Node),
		changed: make(chan struct{}),
		streams: make(map[string]*stream),
		calls:   make(map[string][]*call),
		polls:   make(map[string]*poll),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.stage = newStage(t, p)
	defer p.tearDown()
	p.bound.given = s.given
	p.done = time.Now()
	p.acted, p.actedAt = &line{}, p.done
	for _, l := range lines {
		if p.played[l.Number] {
			continue
		}
		if command, ok := s.before[l.Number]; ok {
			if _, err := p.stage.probe(command.executor).run(l, command.command); err != nil {
				t.Fatalf("%s:%d: before it, %s: %v", p.file, l.Number, command.command, err)
			}
		}
		if err := p.playLine(l); err != nil {
			t.Fatalf("%s:%d: %s %s: %v", p.file, l.Number, l.actor(), describe(l), err)
		}
		p.done = time.Now()
	}
	if err := p.leftOver(); err != nil {
		t.Errorf("%s: %v", p.file, err)
	}
	p.checkTolerances()
}

// differs reports a difference that does not keep the recording from going on.
func (p *player) differs(l *line, d error) {
	p.t.Errorf("%s:%d: %s %s: %v", p.file, l.Number, l.actor(), describe(l), d)
	const enough = 10
	if p.differences++; p.differences == enough {
		p.t.Fatal("that is enough")
	}
}

// anything accepts every difference, to bind what can be bound all the same.
func anything(string, any, any) bool { return true }

func describe(l *line) string {
	switch {
	case l.What == whatRequest:
		return strings.TrimSpace(fmt.Sprintf("-> %s %s %s", l.Method, l.Path, l.callType()))
	case l.What == whatResponse:
		return fmt.Sprintf("<- response %d %s", l.Status, l.Note)
	case l.What == whatEvent:
		return "<- " + l.Event
	}
	return strings.TrimSpace(l.What + " " + l.Note)
}

func (p *player) playLine(l *line) error {
	switch l.What {
	case whatNote:
		return p.playNote(l)
	case whatEnv:
		return p.playEnv(l)
	case whatExit:
		return p.awaitExit(l)
	case whatRequest:
		if l.Who == fetcher {
			return p.stage.awaitFetch(l)
		}
		if next := p.lines[min(l.Number, len(p.lines)-1)]; next.Note == rawNote {
			return p.playRaw(l, next)
		}
		return p.send(l)
	case whatResponse:
		if l.Note == rawNote {
			return nil // compared with its request
		}
		return p.awaitAnswer(l)
	case whatEvent:
		return p.awaitEvent(l)
	case whatEnd:
		if l.Sent {
			return p.closeStream(l)
		}
		return p.awaitEnd(l)
	}
	return fmt.Errorf("what is a line of kind %q?", l.What)
}

// masterBoot is how long the recorded masters and agents took from their start to
// their first deed.
const masterBoot = 80 * time.Millisecond

// begin sets the clock of the recording by the start of the master, whose allocation
// cycles, one per second from then on, everything in the recording moves between.
func (p *player) begin(l *line) {
	p.zero = time.Now().Add(-l.At - masterBoot)
}

// pause waits until the recorded script acted. Who is late by more than a moment skips
// whole cycles.
func (p *player) pause(l *line) {
	if p.zero.IsZero() {
		p.begin(l)
	}
	const moment, cycle = 300 * time.Millisecond, time.Second
	if late := time.Since(p.zero.Add(l.At)); late > moment {
		p.zero = p.zero.Add(late.Truncate(cycle) + cycle)
	}
	p.settle(l)
	p.acted, p.actedAt = l, time.Now()
}

// follow sets the clock by a line that came at a time of its own, such as the election
// of a leader. What the script did afterwards depends on it.
func (p *player) follow(l *line) {
	const moment = 300 * time.Millisecond
	if zero := time.Now().Add(-l.At); zero.Sub(p.zero).Abs() > moment {
		p.zero = zero
	}
}

// settle waits until it is as late as it was at the line.
func (p *player) settle(l *line) {
	timer := time.NewTimer(time.Until(p.zero.Add(l.At)))
	defer timer.Stop()
	<-timer.C
}

// notify wakes those who wait for arrivals. The caller holds the lock.
func (p *player) notifyLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// await calls found, with the lock held, until it returns true or an error, or time
// is up.
func (p *player) await(l *line, found func() (bool, error)) error {
	return p.awaitFor(p.limit(l), found)
}

// limit is how long to wait for a line at most: what it took in the recording since
// the script did something, and what a busy machine may add.
func (p *player) limit(l *line) time.Duration {
	return within + max(l.At-p.acted.At-time.Since(p.actedAt), 0)
}

var errTooLate = fmt.Errorf("did not happen in time")

func (p *player) awaitFor(limit time.Duration, found func() (bool, error)) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	again := time.NewTicker(100 * time.Millisecond) // for what depends on the time
	defer again.Stop()
	for {
		p.mu.Lock()
		ok, err := found()
		changed := p.changed
		p.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-again.C:
		case <-timer.C:
			return errTooLate
		}
	}
}

// tearDown ends everything of the scenario.
func (p *player) tearDown() {
	p.cancel()
	p.stage.close()
	for _, c := range p.all {
		if err := c.Close(); err != nil {
			p.t.Error(err)
		}
	}
	p.group.Wait()
}

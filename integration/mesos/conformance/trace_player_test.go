package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	emulator "pacer/integration/mesos"
	"pacer/integration/mesos/wire"

	mesosexecutor "github.com/mesos/mesos-go/api/v1/lib/executor"
	mesosscheduler "github.com/mesos/mesos-go/api/v1/lib/scheduler"
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
	acted       *line     // the last line that sent or did something
	actedAt     time.Time

	mu      sync.Mutex
	changed chan struct{} // closed when something has arrived
	streams map[string]*stream
	retired []*stream // whose label has been used again
	calls   map[string][]*call
	polls   map[string]*poll
}

// call is a request whose answer is not a stream.
type call struct {
	line   *line
	answer *exchangeItem // nil until it is there
}

// stream is a connection with events.
type stream struct {
	who      string
	actor    string
	label    string
	answer   *exchangeItem
	arrived  []*arrival // events that no line has claimed
	claimed  []*arrival
	offers   []*arrival // offers one by one, unclaimed
	surplus  []amount   // see takeMore
	end      string     // "" while it lasts
	endTaken bool
	endedAt  time.Time // zero while it lasts
	close    func()
}

// arrival is an event, or one offer.
type arrival struct {
	at    time.Time
	kind  string
	value any
}

// play plays the whole recording. Failures end the test at once: what follows would
// not make sense.
func play(t *testing.T, s *scenario) {
	path := filepath.Join("..", "testdata", s.name+".jsonl")
	lines, err := readRecording(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{
		t: t, scenario: s, file: s.name + ".jsonl", lines: lines, bound: newBindings(),
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

// send makes a recorded request.
func (p *player) send(l *line) error {
	p.pause(l)
	request, err := p.request(l)
	if err != nil {
		return err
	}
	actor := l.actor()
	if l.Conn != "" {
		s := p.newStream(l.Who, actor, l.Conn)
		s.close, err = p.start(l, request, func(item exchangeItem) { p.streamItem(s, item) })
		return err
	}
	// Mesos handled the requests of one client in their order, because it took a
	// round trip between them.
	_ = p.awaitFor(time.Second, func() (bool, error) {
		return !slices.ContainsFunc(p.calls[actor], func(c *call) bool { return c.answer == nil }), nil
	})
	c := &call{line: l}
	p.mu.Lock()
	p.calls[actor] = append(p.calls[actor], c)
	p.mu.Unlock()
	_, err = p.start(l, request, func(item exchangeItem) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.answer = &item
		p.notifyLocked()
	})
	return err
}

// start begins an exchange as the party of the line and returns how to break it off.
func (p *player) start(l *line, request exchangeRequest, report func(exchangeItem)) (func(), error) {
	if l.Who == executor {
		probe := p.stage.probe(l.ID)
		if probe == nil {
			return nil, fmt.Errorf("executor %s is not running", l.ID)
		}
		return probe.exchange(request, report), nil
	}
	ctx, cancel := context.WithCancel(p.ctx)
	p.group.Go(func() { exchange(ctx, request, report) })
	return cancel, nil
}

// request makes a request from what was recorded.
func (p *player) request(l *line) (exchangeRequest, error) {
	path, err := p.bound.instantiate(l.Path)
	if err != nil {
		return exchangeRequest{}, err
	}
	r := exchangeRequest{
		Network: "tcp", Address: p.address(l), Method: l.Method, Path: fmt.Sprint(path),
		Headers: make(map[string]string), Stream: l.Conn != "",
	}
	if l.Who == executor && strings.Contains(l.Note, "domain socket") && !strings.Contains(l.Note, "over TCP") {
		r.Network, r.Address = "unix", p.stage.socket()
	}
	for key, value := range l.Headers {
		filled, err := p.bound.instantiate(value)
		if err != nil {
			return r, err
		}
		r.Headers[key] = fmt.Sprint(filled)
	}
	if r.Body, err = p.body(l); err != nil {
		return r, err
	}
	if len(r.Body) == 0 && l.HasText {
		text, err := p.bound.instantiate(l.Text)
		if err != nil {
			return r, err
		}
		r.Body = []byte(fmt.Sprint(text))
	}
	return r, nil
}

func (p *player) body(l *line) ([]byte, error) {
	if l.Body == nil {
		return nil, nil
	}
	complete, err := p.complete(l, l.Body)
	if err != nil {
		return nil, err
	}
	body, err := p.bound.instantiate(complete)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(body)
	if err != nil || !l.protobuf() {
		return text, err
	}
	var m wire.Message = &mesosscheduler.Call{}
	if l.Who == executor {
		m = &mesosexecutor.Call{}
	}
	if _, err := wire.JSON.Unmarshal(text, m); err != nil {
		return nil, err
	}
	return wire.Protobuf.Marshal(m)
}

// complete restores ExecutorInfos that the recording has shortened.
func (p *player) complete(l *line, value any) (any, error) {
	switch value := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(value))
		for key, v := range value {
			if info, ok := v.(map[string]any); ok && key == "executor" {
				var err error
				if v, err = p.executorInfo(l, info); err != nil {
					return nil, err
				}
			} else {
				var err error
				if v, err = p.complete(l, v); err != nil {
					return nil, err
				}
			}
			made[key] = v
		}
		return made, nil
	case []any:
		made := make([]any, len(value))
		for i := range value {
			var err error
			if made[i], err = p.complete(l, value[i]); err != nil {
				return nil, err
			}
		}
		return made, nil
	}
	return value, nil
}

func (p *player) executorInfo(l *line, info map[string]any) (map[string]any, error) {
	if info["_elided"] == nil {
		if p.full == nil {
			p.full = info
		}
		return info, nil
	}
	if p.full == nil {
		return nil, fmt.Errorf("a shortened ExecutorInfo before any complete one")
	}
	made, _ := clone(p.full).(map[string]any)
	made["executor_id"] = info["executor_id"]
	id, _ := member(info, "executor_id", "value").(string)
	if change := p.scenario.executors[id]; change != nil {
		change(made)
	}
	if change := p.scenario.requests[l.Number]; change != nil {
		change(made)
	}
	return made, nil
}

func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(value))
		for key, v := range value {
			made[key] = clone(v)
		}
		return made
	case []any:
		made := make([]any, len(value))
		for i := range value {
			made[i] = clone(value[i])
		}
		return made
	}
	return value
}

// address is whom a request is for.
func (p *player) address(l *line) string {
	agent := p.target
	if to, ok := p.scenario.targets[l.Number]; ok {
		agent = to
	}
	switch {
	case l.Who == executor:
		if address := p.stage.endpoint(l.ID); address != "" {
			return address
		}
		agent = "agent-1"
	case l.Who == scheduler && !strings.HasPrefix(agent, "master-"):
		agent = ""
	}
	if name := regexp.MustCompile(`\bat (?:the returned master|master-1 while)|^at the leader$`).FindString(l.Note); name != "" {
		agent = "master-1"
	}
	if seat := p.seat(agent); strings.HasPrefix(agent, "master-") {
		return seat.Address()
	}
	if node := p.nodes[agent]; node != nil {
		return strings.TrimPrefix(node.URL(), "http://")
	}
	return p.cluster.MasterAddress()
}

// newStream makes the stream that a label stands for from now on.
func (p *player) newStream(who, actor, label string) *stream {
	s := &stream{who: who, actor: actor, label: label}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := actor + " " + label
	if old := p.streams[key]; old != nil {
		p.retired = append(p.retired, old)
	}
	p.streams[key] = s
	return s
}

// streamItem takes in what a stream has brought.
func (p *player) streamItem(s *stream, item exchangeItem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.notifyLocked()
	switch {
	case item.End != "":
		s.end, s.endedAt = item.End, time.Now()
	case item.Record != nil:
		s.takeRecord(item.Record)
	default:
		s.answer = &item
	}
}

func (s *stream) takeRecord(record []byte) {
	now := time.Now()
	value, err := s.decode(record)
	if err != nil {
		s.arrived = append(s.arrived, &arrival{at: now, kind: "BROKEN RECORD", value: err.Error()})
		return
	}
	kind, _ := member(value, "type").(string)
	if kind == "OFFERS" && s.who == scheduler {
		offers, _ := member(value, "offers", "offers").([]any)
		for _, offer := range offers {
			s.offers = append(s.offers, &arrival{at: now, kind: kind, value: offer})
		}
		return
	}
	s.arrived = append(s.arrived, &arrival{at: now, kind: kind, value: value})
}

// decode gives the JSON form of a record.
func (s *stream) decode(record []byte) (any, error) {
	if s.answer.Headers["Content-Type"] == string(wire.Protobuf) {
		var m wire.Message = &mesosscheduler.Event{}
		if s.who == executor {
			m = &mesosexecutor.Event{}
		}
		if _, err := wire.Protobuf.Unmarshal(record, m); err != nil {
			return nil, err
		}
		var err error
		if record, err = wire.JSON.Marshal(m); err != nil {
			return nil, err
		}
	}
	return decodeJSON(record)
}

// stream finds the stream that a label stands for. The answer to a repeated SUBSCRIBE
// may have been recorded after the stream's first event.
func (p *player) stream(l *line) (*stream, error) {
	p.mu.Lock()
	known := p.streams[l.actor()+" "+l.Conn] != nil
	p.mu.Unlock()
	for _, next := range p.lines[l.Number:] {
		if known || next.What != whatResponse || next.actor() != l.actor() || next.Conn != l.Conn {
			continue
		}
		p.played[next.Number] = true
		if err := p.awaitPoll(next); err != nil {
			return nil, err
		}
		break
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.streams[l.actor()+" "+l.Conn]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("nothing has opened %s of %s", l.Conn, l.actor())
}

func (p *player) closeStream(l *line) error {
	p.pause(l)
	s, err := p.stream(l)
	if err != nil {
		return err
	}
	s.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.endTaken, s.endedAt = true, time.Now()
	return nil
}

func (p *player) awaitEnd(l *line) error {
	s, err := p.stream(l)
	if err != nil {
		return err
	}
	err = p.await(l, func() (bool, error) {
		if s.end == "" {
			return false, nil
		}
		s.endTaken = true
		if s.end != l.Note {
			return false, fmt.Errorf("recorded %q, got %q", l.Note, s.end)
		}
		return true, nil
	})
	return err
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

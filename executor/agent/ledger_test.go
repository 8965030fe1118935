package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// The ledger is driven by a script, one step a line:
//
//	launch T             LAUNCH of task T came
//	add T:N              update N of task T was made
//	send [T:N ...]       exactly these are sent next
//	ok|later|bad T:N     their answer was 202, nothing, 400
//	drop T:N             400 for the last time: given up
//	ack T:N              ACKNOWLEDGED came
//	subscribe [tasks] [updates]   what SUBSCRIBE lists; SUBSCRIBED follows
//	wait D               time passes
//	detach, unheard, heard
func TestLedger(t *testing.T) {
	tests := []struct{ name, script string }{
		{"one in flight per task", `
			add a:1; add a:2; add b:1
			send a:1 b:1
			send
			ok a:1
			send a:2
			ok b:1; ok a:2
			send`},
		{"nothing overtakes an update that was not accepted", `
			add a:1; add a:2
			send a:1
			later a:1
			send a:1
			ok a:1
			send a:2`},
		{"unacknowledged ones are sent again, backing off", `
			add a:1
			send a:1
			ok a:1
			wait 9s; send
			wait 1s; send a:1
			ok a:1
			wait 19s; send
			wait 1s; send a:1
			ok a:1; ack a:1
			wait 1h; send`},
		{"acknowledged before its 202", `
			add a:1; add a:2
			send a:1
			ack a:1
			send
			ok a:1
			send a:2`},
		{"acknowledged, then its call fails", `
			add a:1; add a:2
			send a:1
			ack a:1
			later a:1
			send a:2`},
		{"out of order and twice", `
			add a:1; add a:2
			send a:1
			ok a:1
			send a:2
			ok a:2; ack a:2; ack a:2
			wait 10s; send a:1
			ok a:1; ack a:1; ack a:9
			subscribe [] []`},
		{"rejected does not block for ever", `
			add a:1; add a:2
			send a:1
			bad a:1
			send
			wait 500ms; send a:1
			bad a:1
			wait 1s; send a:1
			bad a:1
			wait 2s; send a:1
			drop a:1
			send a:2`},
		{"subscribe lists what is unacknowledged, in order of creation", `
			launch b; launch a; launch c
			add b:1; add a:1; add b:2
			send b:1 a:1
			ok b:1; ok a:1; ack a:1
			subscribe [b c] [b:1 b:2]
			send
			ack b:2
			subscribe [c] [b:1]`},
		{"replayed ones count as accepted", `
			add a:1
			subscribe [] [a:1]
			add a:2
			send a:2
			ok a:2
			wait 10s; send a:1
			ok a:1
			send a:2`},
		{"replay while in flight", `
			add a:1
			send a:1
			subscribe [] [a:1]
			send
			later a:1
			wait 10s; send a:1`},
		{"launched again", `
			launch a; launch a
			subscribe [a] []`},
		{"detached: 202 is the end", `
			add a:1; add a:2
			send a:1
			ok a:1
			send a:2
			detach
			ok a:2
			send a:1
			ok a:1
			send`},
		{"accepted twice and nothing heard", `
			add a:1
			send a:1
			ok a:1
			heard
			wait 10s; send a:1
			ok a:1
			unheard`},
		{"another acknowledgement was heard", `
			add a:1; add b:1
			send a:1 b:1
			ok a:1; ok b:1
			wait 1s; ack b:1
			wait 9s; send a:1
			ok a:1
			heard`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t)
			for n, line := range strings.Split(tt.script, "\n") {
				for step := range strings.SplitSeq(line, ";") {
					if step = strings.TrimSpace(step); step != "" {
						s.step(fmt.Sprintf("line %d %q", n, step), strings.Fields(step))
					}
				}
			}
		})
	}
}

type script struct {
	t         *testing.T
	l         *ledger
	now       time.Time
	lastEvent time.Time
	names     map[uuid.UUID]string
	updates   map[string]*update
}

func newScript(t *testing.T) *script {
	now := time.Unix(1000, 0)
	return &script{t: t, l: newLedger(), now: now, lastEvent: now.Add(-time.Second), names: map[uuid.UUID]string{}, updates: map[string]*update{}}
}

func (s *script) step(where string, words []string) {
	arg := ""
	if len(words) > 1 {
		arg = words[1]
	}
	task, _, _ := strings.Cut(arg, ":")
	var id []byte
	for known, name := range s.names {
		if name == arg {
			id = known[:]
		}
	}
	switch words[0] {
	case "launch":
		s.l.launch(mesos.TaskInfo{TaskID: mesos.TaskID{Value: arg}})
	case "add":
		id := uuid.New()
		s.names[id] = arg
		s.l.add(mesos.TaskStatus{TaskID: mesos.TaskID{Value: task}, UUID: id[:]})
	case "send":
		var got []string
		for _, u := range s.l.sendable(s.now, 10) {
			name := s.names[u.uuid]
			s.updates[name] = u
			got = append(got, name)
		}
		if !slices.Equal(got, words[1:]) {
			s.t.Fatalf("%s: sends %q", where, got)
		}
	case "ok", "later", "bad", "drop":
		result := map[string]outcome{"ok": accepted, "later": postponed, "bad": rejected, "drop": rejected}[words[0]]
		if dropped := s.l.settle(s.updates[arg], result, s.now); dropped != (words[0] == "drop") {
			s.t.Fatalf("%s: dropped is %v", where, dropped)
		}
	case "ack":
		s.lastEvent = s.now
		s.l.acknowledge(task, id)
	case "subscribe":
		call, included := s.l.subscribe()
		var tasks, updates []string
		for _, task := range call.UnacknowledgedTasks {
			tasks = append(tasks, task.TaskID.Value)
		}
		for _, u := range call.UnacknowledgedUpdates {
			updates = append(updates, s.names[uuid.UUID(u.Status.UUID)])
		}
		if got, want := fmt.Sprint(tasks, " ", updates), strings.Join(words[1:], " "); got != want {
			s.t.Fatalf("%s: lists %s", where, got)
		}
		s.lastEvent = s.now
		s.l.subscribed(included, s.now)
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
	case "detach":
		s.l.detach()
	case "heard", "unheard":
		if got := s.l.unheard(s.lastEvent, s.now); got != (words[0] == "unheard") {
			s.t.Fatalf("%s: unheard is %v", where, got)
		}
	default:
		s.t.Fatalf("%s: no such step", where)
	}
}

func TestLedger_Limit(t *testing.T) {
	s := newScript(t)
	for n := range 5 {
		s.step("", []string{"add", fmt.Sprintf("t%d:1", n)})
	}
	if n := len(s.l.sendable(s.now, 2)); n != 2 {
		t.Errorf("%d sent, limit 2", n)
	}
	if n := len(s.l.sendable(s.now, 3)); n != 3 {
		t.Errorf("%d sent afterwards, want the other 3", n)
	}
}

// FuzzLedger plays a random agent against the ledger: however it answers, each
// task's updates are accepted in order, and all end once it behaves.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 250, 251, 252})
	f.Add([]byte("launch and land"))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		l := newLedger()
		now := time.Unix(1000, 0)
		made := map[string]int{}      // task -> number of updates made
		number := map[uuid.UUID]int{} // update -> its number within the task
		seen := map[string]int{}      // task -> highest number the agent has got
		var inFlight []*update
		deliver := func(u mesos.TaskStatus) {
			n, task := number[uuid.UUID(u.UUID)], u.TaskID.Value
			if n > seen[task]+1 {
				t.Fatalf("update %d of %s arrives when the agent has seen %d", n, task, seen[task])
			}
			seen[task] = max(seen[task], n)
		}
		for _, b := range bytes {
			task := fmt.Sprint("t", b%3)
			switch b % 7 {
			case 0, 1:
				id := uuid.New()
				made[task]++
				number[id] = made[task]
				l.add(mesos.TaskStatus{TaskID: mesos.TaskID{Value: task}, UUID: id[:]})
			case 2:
				inFlight = append(inFlight, l.sendable(now, int(b%4))...)
			case 3, 4:
				if len(inFlight) > 0 {
					i := int(b) % len(inFlight)
					u := inFlight[i]
					inFlight = slices.Delete(inFlight, i, i+1)
					switch b % 3 {
					case 0:
						deliver(u.status)
						l.settle(u, accepted, now)
					case 1:
						deliver(u.status)
						l.acknowledge(u.task, u.uuid[:])
						l.settle(u, postponed, now)
					default:
						l.settle(u, postponed, now)
					}
				}
			case 5:
				call, included := l.subscribe()
				for _, u := range call.UnacknowledgedUpdates {
					deliver(u.Status)
				}
				l.subscribed(included, now)
			case 6:
				now = now.Add(time.Duration(b) * time.Second)
			}
		}
		for _, u := range inFlight {
			l.settle(u, postponed, now)
		}
		for range 100 + 2*len(bytes) {
			for _, u := range l.sendable(now, 100) {
				deliver(u.status)
				l.settle(u, accepted, now)
				l.acknowledge(u.task, u.uuid[:])
			}
			now = now.Add(maxAckTimeout)
		}
		if l.len() != 0 {
			t.Fatalf("%d updates are never sent", l.len())
		}
		for task, n := range made {
			if seen[task] != n {
				t.Errorf("%s: %d of %d updates arrived", task, seen[task], n)
			}
		}
	})
}

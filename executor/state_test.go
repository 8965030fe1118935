package executor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

// rulesFor are the rules of the tables, changed where a case asks for it.
func rulesFor(change func(*rules)) rules {
	r := rules{
		checked:       true,
		registers:     true,
		required:      true,
		reportKilling: true,
		register:      time.Minute,
		schedulerKill: 5 * time.Minute,
		times:         times{deregister: 5 * time.Second, drain: 2 * time.Second, grace: 10 * time.Second},
	}
	if change != nil {
		change(&r)
	}
	return r
}

// describe writes an action as the tables do.
func describe(a action) string {
	switch a := a.(type) {
	case report:
		text := strings.TrimPrefix(a.state.String(), "TASK_")
		switch a.healthy {
		case healthy:
			text += " healthy"
		case unhealthy:
			text += " unhealthy"
		}
		if a.reason != nil {
			text += " " + strings.TrimPrefix(a.reason.String(), "REASON_")
		}
		for _, l := range a.labels {
			text += " " + l[0] + "=" + l[1]
		}
		return text
	case deregister:
		return "deregister"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", a), "executor.")
}

// at is an event at a time after the launch.
type at struct {
	after time.Duration
	event event
}

// play feeds events, and a tick whenever the state asks for one, as the task's
// goroutine does, and returns the actions with their times, and the message of
// the last status.
func play(s state, events []at) (last state, trace []string, message string) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	apply := func(now time.Time, ev event) {
		var actions []action
		s, actions = s.next(now, ev)
		for _, a := range actions {
			trace = append(trace, fmt.Sprintf("%v %s", now.Sub(begin), describe(a)))
			if r, ok := a.(report); ok {
				message = r.message
			}
		}
	}
	for _, e := range events {
		now := begin.Add(e.after)
		for {
			wake := s.wake()
			if wake.IsZero() || !wake.Before(now) {
				break
			}
			apply(wake, tick{})
		}
		apply(now, e.event)
	}
	return s, trace, message
}

const sec = time.Second

// inService is the way to a healthy, registered task at 3 s.
var inService = []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {2 * sec, becameHealthy{}}, {3 * sec, registered{}}}

var inServiceTrace = []string{
	"0s STARTING", "0s prepare", "1s spawn", "1s RUNNING", "1s startChecks", "2s register",
	"3s RUNNING healthy TASK_HEALTH_CHECK_STATUS_UPDATED",
}

func after(more ...at) []at { return append(append([]at{}, inService...), more...) }

func exitCode(code int) exit { return exit{code: code} }

func TestNext_FollowsTheDiagram(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rules  func(*rules)
		events []at
		served bool     // the events begin with inService, and so the trace
		want   []string // what follows then
		phase  phase
		text   []string // in the last status
	}{
		{
			name: "kill: every step in order", phase: ended,
			served: true,
			events: after(at{10 * sec, kill{}}, at{11 * sec, deregistered{}}, at{14 * sec, rootEnded{exitCode(0)}}, at{14 * sec, treeQuiet{}}, at{14 * sec, treeEnded{exitCode(0)}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "13s terminate", "14s killTree", "14s KILLED healthy", "14s release"},
			text:   []string{"killed on request", "exited with code 0 1s after SIGTERM", "ran for 13s"},
		},
		{
			name: "kill: SIGKILL after the grace", phase: ended,
			served: true,
			events: after(at{10 * sec, kill{grace: 4 * sec, hasGrace: true}}, at{10 * sec, deregistered{}}, at{17 * sec, treeEnded{exit{signal: "SIGKILL", code: -1}}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s terminate", "16s killTree", "17s KILLED healthy", "17s release"},
			text:   []string{"ended by SIGKILL, SIGKILL was needed 4s after SIGTERM"},
		},
		{
			name: "kill: children may use the grace when the shell has gone", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{}}, at{10 * sec, deregistered{}}, at{12 * sec, rootEnded{exit{signal: "SIGTERM"}}}, at{20 * sec, tick{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s terminate"},
		},
		{
			name: "kill: grace 0 is SIGKILL at once", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{hasGrace: true}}, at{10 * sec, deregistered{}}, at{12 * sec, tick{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s killTree"},
		},
		{
			name: "kill: a registry that is down costs its deadline only, and is named", phase: ended,
			served: true,
			events: after(at{10 * sec, kill{}}, at{12 * sec, registryFailed{"zookeeper: no quorum"}}, at{18 * sec, rootEnded{exitCode(0)}}, at{18 * sec, treeQuiet{}}, at{18 * sec, treeEnded{exitCode(0)}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "17s terminate", "18s killTree", "18s KILLED healthy", "18s release"},
			text:   []string{"not known to be deregistered: no confirmation within 5s (zookeeper: no quorum)"},
		},
		{
			name: "kill: the drain ends with the process", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{}}, at{10 * sec, deregistered{}}, at{11 * sec, rootEnded{exitCode(0)}}, at{11 * sec, treeQuiet{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "11s terminate", "11s killTree"},
		},
		{
			name: "kill: no drain for what was deregistered long ago", phase: killing,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"HTTP 503"}}, at{6 * sec, deregistered{}}, at{10 * sec, kill{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"10s KILLING unhealthy", "10s stopChecks", "10s terminate"},
		},
		{
			name: "kill: what is being deregistered gets the deadline of the end", phase: killing,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"HTTP 503"}}, at{10 * sec, kill{}}, at{20 * sec, tick{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"10s KILLING unhealthy", "10s stopChecks", "10s deregister", "17s terminate"},
		},
		{
			name: "kill: the second may only shorten", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{grace: 20 * sec, hasGrace: true}}, at{10 * sec, deregistered{}}, at{13 * sec, kill{grace: time.Hour, hasGrace: true}}, at{14 * sec, kill{grace: 5 * sec, hasGrace: true}}, at{30 * sec, tick{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s terminate", "17s killTree"},
		},
		{
			name: "kill: the second, shorter than what has passed, acts at once", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{}}, at{10 * sec, deregistered{}}, at{15 * sec, kill{grace: 1 * sec, hasGrace: true}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s terminate", "15s killTree"},
		},
		{
			name: "kill while secrets are fetched: nothing starts", phase: ended,
			events: []at{{0, launch{}}, {1 * sec, kill{}}, {1 * sec, failed{problem{text: "context canceled"}}}},
			want:   []string{"0s STARTING", "0s prepare", "1s KILLING", "1s cancelLaunch", "1s KILLED", "1s release"},
			text:   []string{"killed on request; never started"},
		},
		{
			name: "kill when secrets have just come: nothing starts", phase: ended,
			events: []at{{0, launch{}}, {1 * sec, kill{}}, {1 * sec, prepared{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s KILLING", "1s cancelLaunch", "1s KILLED", "1s release"},
		},
		{
			name: "kill while the process is made: it is ended without RUNNING", phase: killing,
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, kill{}}, {2 * sec, spawned{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s spawn", "1s KILLING", "1s cancelLaunch", "2s terminate"},
		},
		{
			name: "kill before the launch was judged", phase: ended,
			events: []at{{0, kill{}}, {0, launch{}}},
			want:   []string{"0s KILLING", "0s KILLED", "0s release"},
		},
		{
			name: "kill during registration", phase: killing,
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {2 * sec, becameHealthy{}}, {3 * sec, kill{}}, {3 * sec, registered{}}, {4 * sec, deregistered{}}, {7 * sec, tick{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s spawn", "1s RUNNING", "1s startChecks", "2s register", "3s KILLING", "3s stopChecks", "3s deregister", "6s terminate"},
		},
		{
			name: "kill without the capability is silent", phase: killing, rules: func(r *rules) { r.reportKilling = false },
			served: true,
			events: after(at{10 * sec, kill{}}),
			want:   []string{"10s stopChecks", "10s deregister"},
		},
		{
			name: "exit 0", phase: ended,
			served: true,
			events: after(at{10 * sec, rootEnded{exitCode(0)}}, at{11 * sec, deregistered{}}, at{12 * sec, treeEnded{exitCode(0)}}),
			want:   []string{"10s stopChecks", "10s deregister", "11s killTree", "12s FINISHED healthy", "12s release"},
			text:   []string{"exited with code 0", "ran for 9s"},
		},
		{
			name: "exit 3", phase: ended,
			served: true,
			events: after(at{10 * sec, rootEnded{exitCode(3)}}, at{10 * sec, deregistered{}}, at{10 * sec, treeEnded{exitCode(3)}}),
			want:   []string{"10s stopChecks", "10s deregister", "10s killTree", "10s FAILED healthy pacer.failure=exit", "10s release"},
			text:   []string{"exited with code 3"},
		},
		{
			name: "signal", phase: ended,
			served: true,
			events: after(at{10 * sec, rootEnded{exit{signal: "SIGSEGV"}}}, at{10 * sec, deregistered{}}, at{10 * sec, treeEnded{exit{signal: "SIGSEGV"}}}),
			want:   []string{"10s stopChecks", "10s deregister", "10s killTree", "10s FAILED healthy pacer.failure=signal", "10s release"},
			text:   []string{"ended by SIGSEGV"},
		},
		{
			name: "out of memory, with the final peak", phase: ended,
			served: true,
			events: after(at{10 * sec, rootEnded{exit{signal: "SIGKILL", oom: true}}}, at{10 * sec, deregistered{}}, at{10 * sec, treeEnded{exit{signal: "SIGKILL", oom: true, peakMemory: 4096}}}),
			want:   []string{"10s stopChecks", "10s deregister", "10s killTree", "10s FAILED healthy CONTAINER_LIMITATION_MEMORY pacer.failure=oom pacer.peak-memory=4096", "10s release"},
			text:   []string{"out of memory"},
		},
		{
			name: "kill after the exit does not make KILLED of it", phase: ended,
			served: true,
			events: after(at{10 * sec, rootEnded{exitCode(0)}}, at{10 * sec, kill{}}, at{11 * sec, deregistered{}}, at{12 * sec, treeEnded{exitCode(0)}}),
			want:   []string{"10s stopChecks", "10s deregister", "11s killTree", "12s FINISHED healthy", "12s release"},
		},
		{
			name: "unhealthy is deregistered, healthy again registered, and said once each", phase: running,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"HTTP 503"}}, at{5 * sec, failedAgain{"HTTP 503"}}, at{6 * sec, deregistered{}}, at{7 * sec, becameHealthy{}}, at{8 * sec, registered{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "7s register",
				"8s RUNNING healthy TASK_HEALTH_CHECK_STATUS_UPDATED"},
		},
		{
			name: "healthy again while still deregistering", phase: running,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{6 * sec, becameHealthy{}}, at{7 * sec, deregistered{}}, at{8 * sec, registered{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "7s register",
				"8s RUNNING healthy TASK_HEALTH_CHECK_STATUS_UPDATED"},
		},
		{
			name: "threshold: the executor kills", phase: ended,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"HTTP 503"}}, at{5 * sec, deregistered{}}, at{6 * sec, reachedThreshold{"HTTP 500"}}, at{8 * sec, rootEnded{exitCode(0)}}, at{8 * sec, treeQuiet{}}, at{8 * sec, treeEnded{exitCode(0)}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"6s KILLING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "6s stopChecks", "7s terminate", "8s killTree",
				"8s KILLED unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED pacer.failure=health", "8s release"},
			text: []string{"killed for failed health checks", "last health check: HTTP 500"},
		},
		{
			name: "threshold: the scheduler kills", phase: killing,
			rules:  func(r *rules) { r.unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS },
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{5 * sec, deregistered{}}, at{6 * sec, reachedThreshold{"y"}}, at{60 * sec, kill{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"6s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED pacer.unhealthy=threshold",
				"1m0s KILLING unhealthy", "1m0s stopChecks", "1m0s terminate"},
		},
		{
			name: "threshold: the scheduler does not come", phase: killing,
			rules:  func(r *rules) { r.unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS },
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{5 * sec, deregistered{}}, at{6 * sec, reachedThreshold{"y"}}, at{307 * sec, tick{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"6s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED pacer.unhealthy=threshold",
				"5m6s KILLING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "5m6s stopChecks", "5m6s terminate"},
		},
		{
			name: "threshold: healthy again before the scheduler came", phase: running,
			rules:  func(r *rules) { r.unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_SCHEDULER_KILLS },
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{5 * sec, deregistered{}}, at{6 * sec, reachedThreshold{"y"}}, at{9 * sec, becameHealthy{}}, at{9 * sec, registered{}}, at{1000 * sec, tick{}}),
			want: []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"6s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED pacer.unhealthy=threshold", "9s register",
				"9s RUNNING healthy TASK_HEALTH_CHECK_STATUS_UPDATED"},
		},
		{
			name: "threshold: nobody kills", phase: running,
			rules:  func(r *rules) { r.unhealthy = payload.UnhealthyPolicy_UNHEALTHY_POLICY_NEVER_KILL },
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{5 * sec, deregistered{}}, at{6 * sec, reachedThreshold{"y"}}, at{10000 * sec, tick{}}),
			want:   []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED"},
		},
		{
			name: "never healthy", phase: killing,
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {20 * sec, becameUnhealthy{"refused"}}, {40 * sec, reachedThreshold{"refused"}}},
			want: []string{"0s STARTING", "0s prepare", "1s spawn", "1s RUNNING", "1s startChecks",
				"20s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED",
				"40s KILLING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "40s stopChecks", "40s terminate"},
		},
		{
			name: "without a health check RUNNING waits for the entry", phase: running, rules: func(r *rules) { r.checked = false },
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {3 * sec, registered{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s spawn", "1s startChecks", "1s register", "3s RUNNING"},
		},
		{
			name: "without check and services RUNNING follows the start", phase: running,
			rules:  func(r *rules) { r.checked, r.registers = false, false },
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s spawn", "1s startChecks", "1s RUNNING"},
		},
		{
			name: "service.required=false does not wait", phase: running, rules: func(r *rules) { r.required = false },
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {2 * sec, becameHealthy{}}, {1000 * sec, tick{}}, {1001 * sec, registered{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s spawn", "1s RUNNING", "1s startChecks", "2s register", "2s RUNNING healthy TASK_HEALTH_CHECK_STATUS_UPDATED"},
		},
		{
			name: "not registered in time", phase: ended,
			events: []at{{0, launch{}}, {1 * sec, prepared{}}, {1 * sec, spawned{}}, {2 * sec, becameHealthy{}}, {12 * sec, registryFailed{"no session"}}, {63 * sec, deregistered{}}, {66 * sec, rootEnded{exitCode(0)}}, {66 * sec, treeQuiet{}}, {66 * sec, treeEnded{exitCode(0)}}},
			want: []string{"0s STARTING", "0s prepare", "1s spawn", "1s RUNNING", "1s startChecks", "2s register",
				"1m2s stopChecks", "1m2s deregister", "1m5s terminate", "1m6s killTree", "1m6s FAILED pacer.failure=registration", "1m6s release"},
			text: []string{"could not be registered within 1m0s: no session"},
		},
		{
			name: "a registry outage later harms nobody", phase: running,
			served: true,
			events: after(at{5 * sec, becameUnhealthy{"x"}}, at{6 * sec, deregistered{}}, at{7 * sec, becameHealthy{}}, at{1000 * sec, registryFailed{"down"}}, at{9000 * sec, tick{}}),
			want:   []string{"5s deregister", "5s RUNNING unhealthy TASK_HEALTH_CHECK_STATUS_UPDATED", "7s register"},
		},
		{
			name: "max_completion_time: no KILLING, no grace, the order stays", phase: ended, rules: func(r *rules) { r.completion = time.Minute },
			served: true,
			events: after(at{61 * sec, deregistered{}}, at{64 * sec, treeEnded{exit{signal: "SIGKILL"}}}),
			want:   []string{"1m0s stopChecks", "1m0s deregister", "1m3s killTree", "1m4s FAILED healthy MAX_COMPLETION_TIME_REACHED pacer.failure=max-completion-time", "1m4s release"},
			text:   []string{"not completed within its 1m0s", "SIGKILL without grace"},
		},
		{
			name: "shutdown fits everything in and says what was cut", phase: ended,
			rules:  func(r *rules) { r.times.drain, r.times.grace = time.Minute, time.Minute },
			served: true,
			events: after(at{10 * sec, shutdown{within: 8 * sec, why: "agent says so"}}, at{19 * sec, treeEnded{exit{signal: "SIGKILL"}}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "14s terminate", "18s killTree", "19s KILLED healthy", "19s release"},
			text:   []string{"killed: agent says so", "no confirmation within 2s", "drain cut by 58s", "grace cut by 56s"},
		},
		{
			name: "shutdown during a long grace", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{grace: time.Hour, hasGrace: true}}, at{10 * sec, deregistered{}}, at{20 * sec, shutdown{within: 4 * sec}}, at{30 * sec, tick{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s terminate", "24s killTree"},
		},
		{
			name: "shutdown without any time still keeps the order", phase: killing,
			served: true,
			events: after(at{10 * sec, shutdown{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "10s killTree"},
		},
		{
			name: "refused", phase: ended,
			events: []at{{0, refuse{problem{class: payload.FailureInvalid, reason: mesos.REASON_TASK_INVALID.Enum(), text: "label x: wrong"}}}},
			want:   []string{"0s FAILED TASK_INVALID pacer.failure=invalid", "0s release"},
			text:   []string{"label x: wrong"},
		},
		{
			name: "secrets denied", phase: ended,
			events: []at{{0, launch{}}, {1 * sec, failed{problem{class: payload.FailureSecrets, text: "403 at secret/x"}}}},
			want:   []string{"0s STARTING", "0s prepare", "1s FAILED pacer.failure=secrets", "1s release"},
			text:   []string{"403 at secret/x"},
		},
		{
			name: "waiting is said once for each reason, and once a minute", phase: starting,
			events: []at{{0, launch{}}, {1 * sec, waiting{"sealed"}}, {2 * sec, waiting{"sealed"}}, {3 * sec, waiting{"refused"}}, {200 * sec, tick{}}},
			want:   []string{"0s STARTING", "0s prepare", "1s STARTING", "1m1s STARTING"},
			text:   []string{"waiting for refused"},
		},
		{
			name: "a panic ends the task in order", phase: killing,
			served: true,
			events: after(at{10 * sec, broke{}}),
			want:   []string{"10s stopChecks", "10s deregister"},
		},
		{
			name: "a panic during the end repeats the step", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{hasGrace: true}}, at{10 * sec, deregistered{}}, at{13 * sec, broke{}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s killTree", "13s killTree"},
		},
		{
			name: "processes that resist are named, and the task stays", phase: killing,
			served: true,
			events: after(at{10 * sec, kill{hasGrace: true}}, at{10 * sec, deregistered{}}, at{17 * sec, stuck{"pid 7 (nfsd) in state D"}}, at{27 * sec, stuck{"pid 7 (nfsd) in state D"}}),
			want:   []string{"10s KILLING healthy", "10s stopChecks", "10s deregister", "12s killTree", "17s KILLING healthy"},
			text:   []string{"not ended 5s after SIGKILL: pid 7 (nfsd) in state D"},
		},
		{
			name: "a check's result is told while the task runs, and carried on", phase: running,
			served: true,
			events: after(at{5 * sec, checkChanged{&mesos.CheckStatusInfo{}}}),
			want:   []string{"5s RUNNING healthy TASK_CHECK_STATUS_UPDATED"},
		},
		{
			name: "nothing happens after the end", phase: ended,
			events: []at{{0, refuse{}}, {1, kill{}}, {2, launch{}}, {3, shutdown{}}, {4, spawned{}}, {5, broke{}}, {6, treeEnded{}}},
			want:   []string{"0s FAILED", "0s release"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, trace, message := play(newState(rulesFor(tc.rules)), tc.events)
			want := tc.want
			if tc.served {
				want = append(append([]string{}, inServiceTrace...), want...)
			}
			if diff := cmp.Diff(want, trace); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if s.phase() != tc.phase {
				t.Errorf("state %v, want %v", s.phase(), tc.phase)
			}
			for _, text := range tc.text {
				if !strings.Contains(message, text) {
					t.Errorf("message %q lacks %q", message, text)
				}
			}
		})
	}
}

// edges are the arrows of the diagram in doc.go, as one event shows them: where
// nothing has to be waited for, an event passes through a state.
var edges = map[phase][]phase{
	staging:  {starting, ended},
	starting: {started, running, killing, ended},
	started:  {running, killing, exited},
	running:  {killing, exited},
	killing:  {ended},
	exited:   {ended},
}

// TestNext_TakesExactlyTheEdgesOfTheDiagram walks at random through the states.
func TestNext_TakesExactlyTheEdgesOfTheDiagram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	events := []event{
		launch{}, refuse{}, waiting{"x"}, prepared{}, spawned{}, failed{}, rootEnded{}, treeQuiet{}, treeEnded{}, becameHealthy{}, becameUnhealthy{},
		failedAgain{}, reachedThreshold{}, checkChanged{}, registered{}, registryFailed{"x"}, deregistered{}, kill{}, kill{hasGrace: true},
		shutdown{within: time.Second}, broke{}, stuck{"x"}, tick{}, tick{}, tick{},
	}
	took := map[phase]map[phase]bool{}
	for range 20_000 {
		s := newState(rulesFor(func(x *rules) {
			x.checked, x.registers, x.required = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
			x.completion = pick(r, 0, 0, time.Minute)
			x.unhealthy = payload.UnhealthyPolicy(r.IntN(3))
		}))
		now := time.Unix(0, 0)
		for range 40 {
			ev := pick(r, events...)
			if r.IntN(4) > 0 && s.phase() < running {
				// Otherwise few walks get far.
				ev = pick[event](r, launch{}, prepared{}, spawned{}, becameHealthy{}, registered{})
			}
			now = now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			next, actions := s.next(now, ev)
			again, repeated := s.next(now, ev)
			if next != again || !slices.EqualFunc(actions, repeated, func(a, b action) bool { return describe(a) == describe(b) }) {
				t.Fatalf("%T in %v gives one thing and then another", ev, s.phase())
			}
			if from, to := s.phase(), next.phase(); from != to {
				if took[from] == nil {
					took[from] = map[phase]bool{}
				}
				took[from][to] = true
			}
			s = next
		}
	}
	for from := staging; from <= ended; from++ {
		var got []phase
		for to := staging; to <= ended; to++ {
			if took[from][to] {
				got = append(got, to)
			}
		}
		if diff := cmp.Diff(edges[from], got); diff != "" {
			t.Errorf("from %v (-want +got):\n%s", from, diff)
		}
	}
}

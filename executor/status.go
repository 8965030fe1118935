package executor

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/payload"
)

// maxMessage is the longest status message in bytes. The master keeps messages
// in memory, one for each state of each task.
const maxMessage = 4 << 10

// waitingPeriod is the shortest time between two statuses that say what a
// launch is waiting for.
const waitingPeriod = time.Minute

// Values of labels on statuses that are constants of ours.
const thresholdReached = "threshold"

// say reports a state with all that is known of the task's health.
func (t *transition) say(state mesos.TaskState, reason *mesos.TaskStatus_Reason, message string, labels ...[2]string) {
	if t.saidRotated && state == mesos.TASK_RUNNING {
		labels = append(labels, [2]string{payload.LabelRestart, restartForSecrets})
	}
	t.do(report{state: state, reason: reason, message: message, healthy: t.reported, check: t.check, labels: labels})
}

func (t *transition) reportHealth() {
	message := ""
	if t.health == unhealthy {
		message = "health check failed: " + t.lastFailure
	}
	t.say(mesos.TASK_RUNNING, mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(), message)
}

func (t *transition) reportThreshold() {
	t.say(mesos.TASK_RUNNING, mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(),
		"health check failed too often: "+t.lastFailure, [2]string{payload.LabelUnhealthy, thresholdReached})
}

func (t *transition) reportCheck() {
	if t.rules.checked || t.phase() == running {
		t.say(mesos.TASK_RUNNING, mesos.REASON_TASK_CHECK_STATUS_UPDATED.Enum(), "")
	}
}

// sayAt is when a reason to wait that has not been reported yet may be.
func (s *state) sayAt() time.Time {
	if s.wait == "" || s.wait == s.said || s.order != launching || s.checkedAndStarted() {
		return time.Time{}
	}
	return s.saidAt.Add(waitingPeriod)
}

// checkedAndStarted reports whether TASK_RUNNING has been sent although the
// task is not in service, so that TASK_STARTING cannot be sent any more.
func (s *state) checkedAndStarted() bool { return s.phase() >= started && s.rules.checked }

// sayWaiting reports what a launch waits for: once for each reason, and at most
// once in waitingPeriod.
func (t *transition) sayWaiting() {
	if at := t.sayAt(); !at.IsZero() && (t.saidAt.IsZero() || reached(t.now, at)) {
		t.said, t.saidAt = t.wait, t.now
		t.say(mesos.TASK_STARTING, nil, "waiting for "+t.wait)
	}
}

// reportKilling announces an end that somebody asked for, to frameworks that
// know the state. Time limits and failed launches go to TASK_FAILED directly.
func (t *transition) reportKilling() {
	if !t.rules.reportKilling {
		return
	}
	switch t.cause {
	case byKill, byShutdown:
		t.say(mesos.TASK_KILLING, nil, t.whatFor())
	case byHealth:
		t.say(mesos.TASK_KILLING, mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(), t.whatFor())
	}
}

// reportStuck says which processes SIGKILL has not ended.
func (t *transition) reportStuck(processes string) {
	if t.order == launching || isEmpty(&t.state) {
		return
	}
	if processes != t.survivors && processes != "" && t.rules.reportKilling {
		t.say(mesos.TASK_KILLING, nil, fmt.Sprintf("not ended %s after SIGKILL: %s", brief(t.now.Sub(t.entered)), processes))
	}
	t.survivors = processes
}

// reportEnd sends the one terminal status and gives everything back.
func (t *transition) reportEnd() {
	state, reason, class := t.verdict()
	var labels [][2]string
	if class != "" {
		labels = append(labels, [2]string{payload.LabelFailure, class})
	}
	if t.exit.peakMemory > 0 {
		labels = append(labels, [2]string{payload.LabelPeakMemory, strconv.FormatUint(t.exit.peakMemory, 10)})
	}
	t.say(state, reason, t.epitaph(), labels...)
	t.do(release{})
}

// verdict is how the end is classed.
func (s *state) verdict() (state mesos.TaskState, reason *mesos.TaskStatus_Reason, class string) {
	switch s.cause {
	case byKill, byShutdown:
		return mesos.TASK_KILLED, nil, ""
	case byHealth:
		return mesos.TASK_KILLED, mesos.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum(), payload.FailureHealth
	case byCompletionTime:
		return mesos.TASK_FAILED, mesos.REASON_MAX_COMPLETION_TIME_REACHED.Enum(), payload.FailureTimeout
	case byRegistration:
		return mesos.TASK_FAILED, nil, payload.FailureRegistration
	case byExit:
		switch {
		case s.exit.oom && !s.exit.succeeded():
			return mesos.TASK_FAILED, mesos.REASON_CONTAINER_LIMITATION_MEMORY.Enum(), payload.FailureOOM
		case s.exit.succeeded():
			return mesos.TASK_FINISHED, nil, ""
		case s.exit.signal != "":
			return mesos.TASK_FAILED, nil, payload.FailureSignal
		}
		return mesos.TASK_FAILED, nil, payload.FailureExit
	}
	return mesos.TASK_FAILED, s.problem.reason, s.problem.class
}

func (e exit) succeeded() bool { return e.signal == "" && e.code == 0 }

func (e exit) String() string {
	text := fmt.Sprintf("exited with code %d", e.code)
	if e.signal != "" {
		text = "ended by " + e.signal
	}
	if e.oom {
		text += ", out of memory"
		if e.memory > 0 {
			text += fmt.Sprintf(" (limit %d MiB, peak %d MiB)", e.memory>>20, e.peakMemory>>20)
		}
	}
	return text
}

// whatFor says why a task is being ended.
func (s *state) whatFor() string {
	switch s.cause {
	case byKill:
		return "killed on request"
	case byShutdown:
		return "killed: " + s.why
	case byHealth:
		return "killed for failed health checks"
	case byCompletionTime:
		return "killed: not completed within its " + brief(s.rules.completion)
	case byRegistration:
		text := "killed: could not be registered within " + brief(s.rules.register)
		if s.why != "" {
			text += ": " + s.why
		}
		return text
	case byProblem:
		return s.problem.text
	}
	return ""
}

// epitaph is the message of the terminal status: why, how, after how long, and
// what was not as it should be.
func (s *state) epitaph() string {
	var parts []string
	add := func(text string) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	add(s.whatFor())
	switch {
	case s.process == noProcess && s.cause != byProblem:
		add("never started")
	case s.process != noProcess:
		text := s.exit.String()
		switch {
		case s.cause == byExit:
		case !s.forced.IsZero():
			text += fmt.Sprintf(", SIGKILL was needed %s after SIGTERM", brief(s.forced.Sub(s.signaled)))
			if s.signaled.IsZero() {
				text = s.exit.String() + ", by SIGKILL without grace"
			}
		case s.leftovers:
			text += ", what it left behind was killed"
		case !s.signaled.IsZero() && !s.exitedAt.Before(s.signaled):
			text += fmt.Sprintf(" %s after SIGTERM", brief(s.exitedAt.Sub(s.signaled)))
		}
		add(text)
		add("ran for " + brief(s.exitedAt.Sub(s.spawned)))
	}
	add(s.shortened)
	if s.lastFailure != "" && s.health != healthy {
		add("last health check: " + s.lastFailure)
	}
	if s.cause == byExit && !s.exit.succeeded() && s.exit.stderr != "" {
		add("stderr: " + s.exit.stderr)
	}
	return strings.Join(parts, "; ")
}

// oneLine is the text of an error that may join several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func (t *transition) shorten(text string) {
	if t.shortened != "" {
		text = t.shortened + "; " + text
	}
	t.shortened = text
}

// brief is a duration as people read it: three digits are enough.
func brief(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}

// clip makes any text a status message: valid UTF-8 without NUL bytes, at most
// maxMessage bytes.
func clip(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	if len(text) <= maxMessage {
		return text
	}
	const more = " [...]"
	cut := maxMessage - len(more)
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}

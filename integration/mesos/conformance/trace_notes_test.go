package conformance

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// action is what a note says was done or observed. It gets the groups of its
// pattern.
type action struct {
	pattern *regexp.Regexp
	do      func(p *player, l *line, groups []string) error
}

// actions are tried in this order. Notes that none of them knows are comments, unless
// they look like something that happens.
var actions = []action{
	{regexp.MustCompile(`^master-(\d) started, (?:no extra flags|extra flags (.*))$`), startMaster},
	{regexp.MustCompile(`^(agent-\d) started, (?:no extra flags|extra flags (.*))$`), startAgent},
	{regexp.MustCompile(`^master-1 is killed with SIGKILL$`), killMaster},
	{regexp.MustCompile(`^master-1 is started again with the same flags and work_dir$`), restartMaster},
	{regexp.MustCompile(`^(agent-\d) is killed with SIGKILL$`), killAgent},
	{regexp.MustCompile(`^(agent) gets SIGTERM$`), killAgent},
	{regexp.MustCompile(`^(agent-\d) is started again with the same flags and work_dir$`), restartAgent},
	{regexp.MustCompile(`^agent gets SIGUSR1$`), shutdownAgent},
	{regexp.MustCompile(`^agent process ended$`), awaitAgentEnd},
	{regexp.MustCompile(`^the agent that came back after being marked gone has exited by itself$`), awaitAgentEnd},
	{regexp.MustCompile(`the agent is stopped (?:with SIGSTOP|\(SIGSTOP\))`), pauseAgent},
	{regexp.MustCompile(`SIGCONT: the agent `), resumeAgent},
	{regexp.MustCompile(`^executor (\S+) tries to SUBSCRIBE every 20ms`), pollExecutor},
	{regexp.MustCompile(`^executor (\S+) exits with code (\d+)$`), exitExecutor},
	{regexp.MustCompile(`^executor (\S+) kills itself with SIGKILL$`), dieExecutor},
	{regexp.MustCompile(`^the helper process \(parent of the executor\) is killed`), killHelper},
	{regexp.MustCompile(`^executor (\S+) (?:dead=(true|false)|is alive|that did not re-subscribe is dead)$`), checkExecutor},
	{regexp.MustCompile(`^no (\S+) event for scheduler (\S+) within (\S+)$`), checkSilence},
	{regexp.MustCompile(`^next offer after (\S+) s, role (\S+)$`), checkOffer},
	{regexp.MustCompile(`^(agent|master) alive: (true|false)$`), checkAlive},
	{regexp.MustCompile(`^before: (\d+) \(setsid\): alive, (\d+): alive$`), leaveProcesses},
	{regexp.MustCompile(`^left of the children: (\d+) \(setsid\): (alive|dead), (\d+): (alive|dead)$`), checkProcesses},
	{regexp.MustCompile(`^the repeated UPDATE got 202$`), repeatUpdate},
	{regexp.MustCompile(`^length of data in the answer: (\d+)$`), checkLength},
	{regexp.MustCompile(`^(?s:sh: (.*))$`), runCommand},
	{regexp.MustCompile(`^---- agent$`), func(p *player, _ *line, _ []string) error { p.target = "agent-1"; return nil }},
	{regexp.MustCompile(`^operator view of the agent$`), func(p *player, _ *line, _ []string) error { p.target = "agent-1"; return nil }},
	{regexp.MustCompile(`^part B: executor re-subscribes after its window`), func(p *player, _ *line, _ []string) error { p.target = ""; return nil }},
}

// deeds are words of things that happen. A note with one of them that is a comment
// all the same is listed in comments.
var (
	deeds    = regexp.MustCompile(`SIG[A-Z]|\bstarted\b|\bZooKeeper\b|\bprocess ended\b|\bwithin \d|dead=|alive\b`)
	comments = regexp.MustCompile(`^(part [A-F]|e[0-9]|now the|duplicate SUBSCRIBE|t1 RUNNING|the same barrier|framework without)`)
)

func (p *player) playNote(l *line) error {
	for _, a := range slices.Concat(zookeeperActions, actions) {
		if m := a.pattern.FindStringSubmatch(l.Note); m != nil {
			return a.do(p, l, m)
		}
	}
	if deeds.MatchString(l.Note) && !comments.MatchString(l.Note) {
		return errors.New("the player does not know what this note wants: add it to actions")
	}
	return nil
}

func exitExecutor(p *player, l *line, groups []string) error {
	p.pause(l)
	code, err := strconv.Atoi(groups[2])
	if err != nil {
		return err
	}
	p.stage.probe(groups[1]).tell(order{Exit: &code})
	return nil
}

func dieExecutor(p *player, l *line, groups []string) error {
	p.pause(l)
	p.stage.probe(groups[1]).tell(order{Die: true})
	return nil
}

// killHelper kills the parent of the executor that was started last.
func killHelper(p *player, l *line, _ []string) error {
	p.pause(l)
	for i := l.Number - 1; i >= 0; i-- {
		if p.lines[i].What == whatEnv {
			parent, err := strconv.Atoi(fmt.Sprint(p.stage.probe(p.lines[i].ID).hello["ppid"]))
			if err != nil {
				return err
			}
			return syscall.Kill(parent, syscall.SIGKILL)
		}
	}
	return errors.New("no executor has been started")
}

func checkExecutor(p *player, l *line, groups []string) error {
	dead := groups[2] == "true" || strings.HasSuffix(l.Note, " is dead")
	probe := p.stage.probe(groups[1])
	p.mu.Lock()
	defer p.mu.Unlock()
	if probe.gone != dead {
		return fmt.Errorf("recorded dead=%v, got dead=%v", dead, probe.gone)
	}
	return nil
}

// checkSilence waits as long as the recorded script did, and finds nothing.
func checkSilence(p *player, l *line, groups []string) error {
	p.settle(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.streams {
		if !strings.HasPrefix(key, "scheduler "+groups[2]+" ") {
			continue
		}
		for _, a := range s.arrived {
			if a.kind == groups[1] && !s.repeated(a) {
				return fmt.Errorf("recorded silence, got %s\n    %s", a.kind, show(a.value))
			}
		}
	}
	return nil
}

// checkOffer compares how long a filter lasted: to the length of a cycle, but on a busy
// machine it may take longer.
func checkOffer(p *player, _ *line, groups []string) error {
	recorded, err := time.ParseDuration(groups[1] + "s")
	if err != nil {
		return err
	}
	const cycle, busy = 1200 * time.Millisecond, 3 * time.Second
	if got := p.offered.Sub(p.actedAt); got < recorded-cycle || got > recorded+busy {
		return fmt.Errorf("got it after %v", got.Round(10*time.Millisecond))
	}
	return nil
}

func checkAlive(p *player, l *line, groups []string) error {
	url := p.cluster.MasterURL()
	if groups[1] == "agent" {
		url = p.node("agent").URL()
	}
	response, err := http.Get(url + "/health")
	if err == nil {
		response.Body.Close()
	}
	if alive := err == nil; strconv.FormatBool(alive) != groups[2] {
		return fmt.Errorf("got alive=%v", alive)
	}
	return nil
}

// leaveProcesses makes the executor of the last line start two processes that outlive
// their parent, the first in a session of its own.
func leaveProcesses(p *player, l *line, groups []string) error {
	probe := p.lastProbe(l)
	output, err := probe.run(l, "setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $!; sleep 60 >/dev/null 2>&1 </dev/null & echo $!")
	if err != nil {
		return err
	}
	p.spare = strings.Fields(output)
	if len(p.spare) != 2 {
		return fmt.Errorf("the shell said %q", output)
	}
	return nil
}

func (p *player) lastProbe(l *line) *probe {
	for i := l.Number - 1; i >= 0; i-- {
		if p.lines[i].Who == executor {
			return p.stage.probe(p.lines[i].ID)
		}
	}
	return nil
}

func checkProcesses(p *player, l *line, groups []string) error {
	var problems []error
	for i, pid := range p.spare {
		want := groups[2*i+2]
		number, err := strconv.Atoi(pid)
		if err != nil {
			return err
		}
		err = p.awaitFor(time.Second, func() (bool, error) { return alive(number) == (want == "alive"), nil })
		if err != nil {
			problems = append(problems, fmt.Errorf("process %s is not %s", groups[2*i+1], want))
		}
		_ = syscall.Kill(number, syscall.SIGKILL)
	}
	return errors.Join(problems...)
}

// alive tells whether a process runs; one that nobody has reaped does not.
func alive(pid int) bool {
	for _, text := range textLines(fmt.Sprintf("/proc/%d/status", pid)) {
		if state, ok := strings.CutPrefix(text, "State:\t"); ok {
			return !strings.HasPrefix(state, "Z")
		}
	}
	return false
}

// repeatUpdate sends the last UPDATE of the recording again until it is accepted.
func repeatUpdate(p *player, l *line, _ []string) error {
	for i := l.Number - 2; i >= 0; i-- {
		update := p.lines[i]
		if update.Who != executor || update.callType() != "UPDATE" {
			continue
		}
		request, err := p.request(update)
		if err != nil {
			return err
		}
		for end := time.Now().Add(within); time.Now().Before(end); {
			answered := make(chan exchangeItem, 1)
			p.stage.probe(update.ID).exchange(request, func(item exchangeItem) { answered <- item })
			select {
			case item := <-answered:
				if item.Status == http.StatusAccepted {
					return nil
				}
			case <-time.After(within):
				return errTooLate
			}
			time.Sleep(20 * time.Millisecond) // as the recorded executor did
		}
		return errTooLate
	}
	return errors.New("no UPDATE before")
}

func checkLength(p *player, _ *line, groups []string) error {
	if got := strconv.Itoa(p.lastLength); got != groups[1] {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

func runCommand(p *player, l *line, groups []string) error {
	if l.Who != executor {
		return errors.New("only executors run commands")
	}
	output, err := p.stage.probe(l.ID).run(l, p.bound.fill(groups[1]))
	if err != nil {
		return err
	}
	if d := p.bound.match(l.Text, strings.TrimSuffix(output, "\n"), p.accept(l)); d != nil {
		return d
	}
	return nil
}

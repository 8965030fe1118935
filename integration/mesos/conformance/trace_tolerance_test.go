package conformance

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tolerance is a difference that is not an error.
type tolerance struct {
	scenario string // "" for all
	line     int    // 0 for all
	// before is the kind of an event that may come before the one of the line, for
	// entries of commuting.
	before string
	// path of the value that differs, for entries of differing.
	path *regexp.Regexp
	// same compares the values, when they must have something in common.
	// Placeholders are filled in.
	same func(want, got any) bool
	// varies says that Mesos itself does it one way or the other. All other entries
	// have to be needed in every run.
	varies bool
	why    string
}

// What varies from run to run, wherever it occurs.
var (
	heartbeatsTolerance = &tolerance{varies: true, why: "heartbeats after the first count the time that the recording took"}
	repeatsTolerance    = &tolerance{varies: true, why: "an agent that has registered sends its oldest updates two or three times"}
	rescindTolerance    = &tolerance{varies: true, why: "an agent's offers are rescinded in the order of a hash table"}
	updatesTolerance    = &tolerance{varies: true, why: "updates of different tasks come in the order of a hash table"}
	piecesTolerance     = &tolerance{varies: true, why: "an allocation cycle cuts what is being freed where it happens to be"}
	earlyTolerance      = &tolerance{varies: true, why: "an offer that the next cycle would have brought is rescinded before the script could see it"}
	endingTolerance     = &tolerance{varies: true, why: "how long an agent takes to notice the end of an executor is up to a second, and so is the time to the next cycle"}
	passingTolerance    = &tolerance{varies: true, why: "how long a starting process refuses connections or answers 503 is a matter of milliseconds"}
)

// commuting lists events that came in another order than the recorded one.
var commuting = []*tolerance{}

// hasty lists lines after which times are not compared.
var hasty = []*tolerance{
	{scenario: "16-", line: 74, varies: true, why: "a session's timeout counts from the leader's death, or from the last thing that it said before"},
	{scenario: "16b", line: 67, varies: true, why: "the same"},
	{scenario: "17", line: 52, varies: true, why: "Mesos freezes a cgroup for more than a second before it kills what is in it"},
	{scenario: "17", line: 77, varies: true, why: "the same after too much memory was used"},
}

// unmodelled are metrics that the emulator does not have.
var unmodelled = regexp.MustCompile(`_revocable_|slave/gpus_|operations?[/_]|/event_queue_|/provisioner/|^master/frameworks/|` +
	`_http_requests$|cache_hits$|cache_size_used|dropped_messages|messages_(authenticate|reconcile_operations|deactivate|(re)?register|resource_request|un|update_slave)|` +
	`valid_(framework|executor)_to|recovery_slave|slave_(shutdowns|unreachable)_|reason_(un)?registered|_subscribers$|recovery_time|allowed_age`)

// differing lists values that are different.
var differing = []*tolerance{
	{scenario: "02", line: 127, path: regexp.MustCompile(`^status$`), varies: true,
		why: "a master takes a moment to notice that a scheduler has closed its stream"},
	{scenario: "19", line: 32, path: regexp.MustCompile(`offered_resources$`), varies: true,
		why: "the agent registers about that time"},
	{scenario: "11", line: 326, path: regexp.MustCompile(`^status$`), varies: true,
		why: "an ACKNOWLEDGE sent together with the TEARDOWN is handled before or after it"},
	{path: regexp.MustCompile(`^(nofile_hard|signals\.CapEff|cgroup(\[\d+\])?)$`), varies: true,
		why: "limits, capabilities and cgroups are those of the machine"},
	{path: regexp.MustCompile(`^signals\.Sig(Ign|Blk)$`), varies: true, same: func(_, got any) bool {
		own := signals()
		return got == any(own["SigIgn"]) || got == any(own["SigBlk"])
	}, why: "executors inherit what whoever started the agent, here the test, ignores"},
	{path: regexp.MustCompile(`^parent_argv\[0\]$`), same: sameProgram, varies: true,
		why: "Mesos is not installed: the program that is its helper here has the name alone"},
	{scenario: "02", path: regexp.MustCompile(`uris\[0\]\.extract$`), same: func(want, got any) bool { return want == any(absent{}) && got == any(true) },
		why: "protobuf does not carry declared defaults; the player shows it as JSON, which does"},
	{scenario: "18", path: regexp.MustCompile(`agent_info\.checkpoint$`), same: func(want, got any) bool { return want == any(true) && got == any(absent{}) },
		why: "the field is deprecated, always true and not in mesos-go, so that no client of it can read it"},
	{scenario: "18", path: regexp.MustCompile(`\[[3-5]\]\.size$`), why: "the executor's program is as large as it is, and so is what it and the fetcher print"},
	{scenario: "18", path: regexp.MustCompile(`(uptime|recovery_time)_secs$`), why: "these count the time that has passed"},
	{scenario: "18", path: unmodelled, same: func(_, got any) bool { return got == any(absent{}) },
		why: "metrics of what is out of scope or not modelled: quota and revocable resources, GPUs, operations, images, libprocess' queues, counters per framework, rate limits of removals"},
	{scenario: "13", line: 86, path: regexp.MustCompile(`^data$`), same: sameFetch,
		why: "the fetcher's log names lines of its source, its configuration in protobuf and a process that is not started here"},
	{scenario: "17", path: regexp.MustCompile(`^update\.status\.(message|limitation\.resources)$`), same: sameButNumbers,
		why: "how much memory there was when the kernel's message came"},
	{scenario: "17", path: regexp.MustCompile(`^$`), same: sameButUsage,
		why: "a process needs as much memory as it needs"},
}

// sameProgram compares the names of programs.
func sameProgram(want, got any) bool {
	a, okA := want.(string)
	b, okB := got.(string)
	return okA && okB && filepath.Base(a) == filepath.Base(b)
}

// sameFetch compares what a fetcher says that it does and why it fails.
func sameFetch(want, got any) bool {
	steps := regexp.MustCompile(`(?m)\] ((?:Fetching|Downloading|EXIT).*)$`)
	texts := func(value any) []string {
		text, _ := value.(string)
		var all []string
		for _, m := range steps.FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		return all
	}
	return len(texts(want)) > 0 && slices.Equal(texts(want), texts(got))
}

// sameButNumbers compares texts without the numbers in them.
func sameButNumbers(want, got any) bool {
	numbers := regexp.MustCompile(`\d+(\.\d+)?`)
	if amounts, ok := amountsOf(got); ok {
		got = fmt.Sprint(amounts[0])
	}
	a, okA := want.(string)
	b, okB := got.(string)
	return okA && okB && numbers.ReplaceAllString(a, "") == numbers.ReplaceAllString(b, "")
}

// sameButUsage compares what cgroups say without how much memory is used.
func sameButUsage(want, got any) bool {
	usage := regexp.MustCompile(`(usage_in_bytes|failcnt): \d+`)
	a, okA := want.(string)
	b, okB := got.(string)
	return okA && okB && usage.ReplaceAllString(a, "") == usage.ReplaceAllString(b, "")
}

// leaving lists events that come although they are not in the recording.
var leaving = []*tolerance{}

// note remembers that a tolerance was needed.
func (p *player) note(t *tolerance) { p.used[t]++ }

// accept is the tolerance for the values of one line.
func (p *player) accept(l *line) tolerated {
	return func(path string, want, got any) bool {
		if text, ok := want.(string); ok {
			want = p.bound.fill(text)
		}
		for _, t := range differing {
			if t.applies(p.scenario.name, l.Number) && t.path.MatchString(path) && (t.same == nil || t.same(want, got)) {
				p.note(t)
				return true
			}
		}
		return false
	}
}

func (t *tolerance) applies(scenario string, number int) bool {
	return (t.scenario == "" || strings.HasPrefix(scenario, t.scenario)) && (t.line == 0 || t.line == number)
}

// tolerateLeftOver tells whether an event may come although no line has it.
func (p *player) tolerateLeftOver(s *stream, a *arrival) bool {
	for _, t := range leaving {
		if t.applies(p.scenario.name, 0) && t.before == a.kind && (t.same == nil || t.same(s.actor, a.value)) {
			p.note(t)
			return true
		}
	}
	return false
}

// checkTolerances fails for entries of this scenario that nothing needed.
func (p *player) checkTolerances() {
	for _, table := range [][]*tolerance{commuting, hasty, differing, leaving} {
		for _, t := range table {
			if t.scenario != "" && strings.HasPrefix(p.scenario.name, t.scenario) && !t.varies && p.used[t] == 0 {
				p.t.Errorf("%s:%d: nothing needs the tolerance %q any more: remove it", p.file, t.line, t.why)
			}
		}
	}
}

package executor

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/executor/labels"
	"pacer/executor/payload"
	"pacer/executor/process"
	"pacer/healthcheck"
)

// testSite is an agent whose framework runs tasks as the current user.
func testSite(t testing.TB) site {
	config := DefaultConfig()
	config.Sandbox = "/sandbox"
	config.AllowedUsers = []string{currentUser(t)}
	return site{
		config:     config,
		framework:  mesos.FrameworkInfo{User: currentUser(t)},
		agent:      mesos.AgentInfo{Hostname: "agent-1"},
		registries: labels.Limits{ZooKeeper: true},
	}
}

func TestPlan_GivesATaskMarathonsEnvironmentAndNothingOfTheExecutors(t *testing.T) {
	t.Setenv("PACER_VAULT_ROLE", "operator")
	t.Setenv("VAULT_ADDR", "https://vault")
	t.Setenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "token")
	admin := "admin-api"
	info := taskInfo(t, "shop_cart.1", func(info *mesos.TaskInfo, task *payload.Task) {
		info.Discovery.Ports.Ports = append(info.Discovery.Ports.Ports, mesos.Port{Number: 31005, Name: &admin})
		info.Resources = append(info.Resources, mesos.Resource{Name: "disk", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 1.5}})
		info.Labels = labelsFor("team", "web", "traefik.enable", "true", "long", strings.Repeat("x", 600))
		task.Environment = []*payload.Variable{{Name: "MODE", Value: "fast"}, {Name: "PORT1", Value: "mine"}, {Name: "MESOS_TASK_ID", Value: "forged"}}
	})
	p, err := newPlan(info, testSite(t))
	if err != nil {
		t.Fatal(err)
	}
	want := environment{
		"PATH": defaultPath, "HOST": "agent-1",
		"PORT": "31000", "PORT0": "31000", "PORTS": "31000,31005",
		"PORT1":     "mine", // the app's own value wins
		"PORT_HTTP": "31000", "PORT_ADMIN_API": "31005", "PORT_31000": "31000", "PORT_31005": "31005",
		"MARATHON_APP_ID": "/shop/cart", "MARATHON_APP_VERSION": "2026-01-01T00:00:00.000Z",
		"MARATHON_APP_RESOURCE_CPUS": "0.1", "MARATHON_APP_RESOURCE_MEM": "32.0", "MARATHON_APP_RESOURCE_DISK": "1.5", "MARATHON_APP_RESOURCE_GPUS": "0",
		"MARATHON_APP_LABELS": "TEAM TRAEFIK_ENABLE", "MARATHON_APP_LABEL_TEAM": "web", "MARATHON_APP_LABEL_TRAEFIK_ENABLE": "true",
		"MODE": "fast", "MESOS_TASK_ID": "shop_cart.1", "MESOS_SANDBOX": "/sandbox/tasks/shop_cart.1",
	}
	if diff := cmp.Diff(want, p.environment); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPlan_NamesEveryMistakeAtOnce(t *testing.T) {
	info := taskInfo(t, "t.1", func(info *mesos.TaskInfo, task *payload.Task) {
		negative := -1.0
		info.HealthCheck.DelaySeconds = &negative
		info.Check = &mesos.CheckInfo{Type: mesos.CheckInfo_HTTP}
		info.Labels = labelsFor("secret.env.A", "nopath", "secret.env.1B", "a/b#c", "service.port9.name", "x", "drain", "soon", "health.nonsense", "1")
		info.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum(), Docker: &mesos.ContainerInfo_DockerInfo{Image: "nginx"}}
		task.User = "nobody-knows"
		task.Environment = []*payload.Variable{{Name: "A=B", Value: "x"}, {Name: "NUL", Value: "a\x00b"}}
		task.Uris = []*payload.URI{{Value: "gopher://x/y"}}
	})
	_, err := newPlan(info, testSite(t))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, text := range []string{
		"health_check.delay_seconds", "check: type is HTTP", "label secret.env.A", "label secret.env.1B", "label service.port9.name",
		"label drain", "label health.nonsense", `user "nobody-knows" is not allowed`, EnvAllowedUsers, `"A=B"`, "the value of NUL", "uri gopher://x/y", "container: ",
	} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error lacks %q:\n%v", text, err)
		}
	}
}

func TestPlan_RefusesATaskIDThatLeavesTheSandbox(t *testing.T) {
	for _, id := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a\x00b"} {
		if _, err := newPlan(taskInfo(t, id, nil), testSite(t)); err == nil || !strings.Contains(err.Error(), "task_id") {
			t.Errorf("task id %q: %v", id, err)
		}
	}
}

func TestUserOf_AllowsOnlyWhoIsListed(t *testing.T) {
	for _, tc := range []struct {
		name      string
		framework string
		allowed   []string
		asked     string
		want      string
		err       string
	}{
		{"the framework's by default", "www", nil, "", "www", ""},
		{"the framework's, asked for", "www", nil, "www", "www", ""},
		{"another", "www", nil, "db", "", "one of www"},
		{"listed", "root", []string{"www", "db"}, "db", "db", ""},
		{"root is not allowed by default", "root", nil, "", "", EnvAllowedUsers},
		{"root by number neither", "0", nil, "", "", EnvAllowedUsers},
		{"root asked for", "www", nil, "root", "", "not allowed"},
		{"root when listed", "root", []string{"root"}, "", "root", ""},
		{"the framework's is not listed", "www", []string{"db"}, "", "", `the framework's own, "www", is not allowed`},
		{"nobody at all", "", nil, "", "", "none given"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := site{config: Config{AllowedUsers: tc.allowed}, framework: mesos.FrameworkInfo{User: tc.framework}}
			got, err := s.userOf(tc.asked, false)
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestHealthCheck_HasMesosDefaultsAndMeanings(t *testing.T) {
	https, path, ipv6 := "https", "/health?deep=1", mesos.IPv6
	half, zero, hundred := 0.5, 0.0, 100.0
	none, five := uint32(0), uint32(5)
	value, notShell := "curl", false
	with := func(change func(*healthcheck.Check)) healthcheck.Check {
		c := healthcheck.Default()
		change(&c)
		return c
	}
	for _, tc := range []struct {
		name   string
		in     mesos.HealthCheck
		policy payload.UnhealthyPolicy
		want   healthcheck.Check
	}{
		{
			name: "HTTP with defaults",
			in:   mesos.HealthCheck{Type: mesos.HealthCheck_HTTP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 80}},
			want: with(func(c *healthcheck.Check) { c.HTTP = &healthcheck.HTTP{Scheme: "", Port: 80} }),
		},
		{
			name: "everything about HTTP, the type inferred",
			in: mesos.HealthCheck{
				DelaySeconds: &zero, IntervalSeconds: &half, TimeoutSeconds: &zero, GracePeriodSeconds: &hundred, ConsecutiveFailures: &five,
				HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 443, Scheme: &https, Path: &path, Protocol: &ipv6, Statuses: []uint32{200, 204}},
			},
			want: with(func(c *healthcheck.Check) {
				c.Delay, c.Interval, c.Timeout, c.Grace, c.Failures = 0, 500*time.Millisecond, 0, 100*time.Second, 5
				c.HTTP = &healthcheck.HTTP{Scheme: "https", Port: 443, Path: path, IPv6: true,
					Statuses: []healthcheck.StatusRange{{First: 200, Last: 200}, {First: 204, Last: 204}}}
			}),
		},
		{
			name: "TCP over IPv6, failures 0 are 1",
			in:   mesos.HealthCheck{Type: mesos.HealthCheck_TCP, ConsecutiveFailures: &none, TCP: &mesos.HealthCheck_TCPCheckInfo{Port: 1, Protocol: &ipv6}},
			want: with(func(c *healthcheck.Check) { c.Failures = 1; c.TCP = &healthcheck.TCP{Port: 1, IPv6: true} }),
		},
		{
			name:   "never kill",
			in:     mesos.HealthCheck{Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{Port: 1}},
			policy: payload.UnhealthyPolicy_UNHEALTHY_POLICY_NEVER_KILL,
			want:   with(func(c *healthcheck.Check) { c.Failures = healthcheck.Never; c.TCP = &healthcheck.TCP{Port: 1} }),
		},
		{
			name: "command line",
			in:   mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND, Command: &mesos.CommandInfo{Value: &value}},
			want: with(func(c *healthcheck.Check) {
				c.Command = &healthcheck.Command{Shell: "curl", Env: map[string]string{}}
			}),
		},
		{
			name: "program with arguments",
			in:   mesos.HealthCheck{Type: mesos.HealthCheck_COMMAND, Command: &mesos.CommandInfo{Value: &value, Shell: &notShell, Arguments: []string{"x", "-s"}}},
			want: with(func(c *healthcheck.Check) {
				c.Command = &healthcheck.Command{Argv: []string{"curl", "-s"}, Env: map[string]string{}}
			}),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := healthCheck(&tc.in, tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.HTTP != nil && tc.want.HTTP.Scheme == "" {
				tc.want.HTTP.Scheme = got.HTTP.Scheme
				if s := got.HTTP.Scheme; s != "" && s != "http" {
					t.Errorf("scheme %q", s)
				}
			}
			if diff := cmp.Diff(tc.want, *got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, tc := range []struct {
		name string
		in   mesos.HealthCheck
		text string
	}{
		{"nothing to ask", mesos.HealthCheck{}, "type is UNKNOWN"},
		{"type without its field", mesos.HealthCheck{Type: mesos.HealthCheck_TCP, HTTP: &mesos.HealthCheck_HTTPCheckInfo{Port: 1}}, "type is TCP"},
		{"port 0", mesos.HealthCheck{Type: mesos.HealthCheck_TCP, TCP: &mesos.HealthCheck_TCPCheckInfo{}}, "port"},
		{"not a number", mesos.HealthCheck{Type: mesos.HealthCheck_TCP, IntervalSeconds: ref(math.NaN()), TCP: &mesos.HealthCheck_TCPCheckInfo{Port: 1}}, "interval_seconds"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := healthCheck(&tc.in, 0); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %v, want one with %q", err, tc.text)
			}
		})
	}
}

func ref[T any](v T) *T { return &v }

func TestKillGrace_NegativeOnesDoNotCount(t *testing.T) {
	policy := func(ns int64) *mesos.KillPolicy {
		return &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: ns}}
	}
	for _, tc := range []struct {
		name   string
		policy *mesos.KillPolicy
		want   time.Duration
	}{
		{"none", nil, time.Minute},
		{"empty", &mesos.KillPolicy{}, time.Minute},
		{"zero", policy(0), 0},
		{"given", policy(5e9), 5 * time.Second},
		{"negative", policy(-1), time.Minute},
		{"huge", policy(math.MaxInt64), math.MaxInt64},
	} {
		if got := killGrace(time.Minute, tc.policy); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestLimitsOf_TakesTheAllocationUnlessTaskInfoSetsAnother(t *testing.T) {
	limits := func(memory, cpus float64) map[string]mesos.Value_Scalar {
		return map[string]mesos.Value_Scalar{"mem": {Value: memory}, "cpus": {Value: cpus}}
	}
	for _, tc := range []struct {
		name   string
		limits map[string]mesos.Value_Scalar
		memory uint64
		quota  float64
	}{
		{"allocation", nil, 32 << 20, 0},
		{"limit", limits(64, 1.5), 64 << 20, 1.5},
		{"infinity", limits(math.Inf(1), math.Inf(1)), 0, 0},
		{"nonsense", limits(math.NaN(), math.NaN()), 0, 0},
		{"negative", limits(-1, -1), 0, 0},
	} {
		info := taskInfo(t, "t.1", nil)
		info.Limits = tc.limits
		if got, want := limitsOf(info), (process.Limits{Memory: tc.memory, CPU: 0.1, CPUQuota: tc.quota}); got != want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, want)
		}
	}
}

func TestPlan_TakesACommandFromTaskInfoForGroups(t *testing.T) {
	value, notShell, variable := "/bin/echo", false, "v"
	info := mesos.TaskInfo{
		Name: "echo", TaskID: mesos.TaskID{Value: "g.1"},
		Command: &mesos.CommandInfo{Value: &value, Shell: &notShell, Arguments: []string{"echo", "hi"},
			Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: "A", Value: &variable}}}},
	}
	p, err := newPlan(info, testSite(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/bin/echo", "hi"}, p.argv); diff != "" {
		t.Error(diff)
	}
	if p.environment["A"] != "v" {
		t.Errorf("A=%q", p.environment["A"])
	}
}

// FuzzPlan feeds any TaskInfo: what cannot be understood is an error, never a
// panic, and a plan's directory is always below the sandbox.
func FuzzPlan(f *testing.F) {
	info := taskInfo(f, "t.1", nil)
	data, err := info.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	s := testSite(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var info mesos.TaskInfo
		if info.Unmarshal(data) != nil {
			return
		}
		p, err := newPlan(info, s)
		if err == nil && len(p.argv) == 0 {
			t.Error("a plan without a command")
		}
		if !strings.HasPrefix(p.directory, "/sandbox/tasks/") {
			t.Errorf("directory %q", p.directory)
		}
	})
}

func TestClip_KeepsMessagesShortAndValid(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 5000), "a\xff\xfeb", "nul\x00", "short"} {
		got := clip(text)
		if len(got) > maxMessage || strings.ContainsRune(got, 0) || strings.ToValidUTF8(got, "") != got {
			t.Errorf("clip(%.10q...) has %d bytes: %.20q", text, len(got), got)
		}
	}
}

package app

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/google/go-cmp/cmp"
)

// changes has, for each field of App, a change of the app and what it means.
// TestCompare_KnowsEveryField fails when a field is added without one.
var changes = map[string]struct {
	change func(*App)
	effect Effect
}{
	"ID":               {nil, NoChange},
	"Version":          {func(a *App) { a.Version++ }, NoChange},
	"LastConfigChange": {func(a *App) { a.LastConfigChange++ }, NoChange},
	"LastScaling":      {func(a *App) { a.LastScaling++ }, NoChange},

	"Cmd":          {func(a *App) { a.Cmd += "x" }, Replace},
	"Args":         {func(a *App) { a.Args[0] = "other" }, Replace},
	"User":         {func(a *App) { a.User = "other" }, Replace},
	"Env":          {func(a *App) { a.Env["NEW"] = "" }, Replace},
	"Labels":       {func(a *App) { a.Labels["team"] = "other" }, Replace},
	"CPUs":         {func(a *App) { a.CPUs++ }, Replace},
	"Mem":          {func(a *App) { a.Mem++ }, Replace},
	"Disk":         {func(a *App) { a.Disk++ }, Replace},
	"GPUs":         {func(a *App) { a.GPUs++ }, Replace},
	"Ports":        {func(a *App) { a.Ports[0].Labels["x"] = "y" }, Replace},
	"RequirePorts": {func(a *App) { a.RequirePorts = !a.RequirePorts }, Replace},
	"Fetch":        {func(a *App) { a.Fetch[0].Cache = true }, Replace},
	"HealthCheck":  {func(a *App) { a.HealthCheck.Path = "/other" }, Replace},
	"KillGrace":    {func(a *App) { *a.KillGrace++ }, Replace},

	"Constraints":           {func(a *App) { a.Constraints[0].Operator = Cluster }, SchedulerOnly},
	"AcceptedResourceRoles": {func(a *App) { a.AcceptedResourceRoles[0] = "other" }, SchedulerOnly},
	"UpgradeStrategy":       {func(a *App) { a.UpgradeStrategy.MaximumOverCapacity = 0 }, SchedulerOnly},
	"Backoff":               {func(a *App) { a.Backoff.Max++ }, SchedulerOnly},
	"KillSelection":         {func(a *App) { a.KillSelection = OldestFirst }, SchedulerOnly},
	"Unreachable":           {func(a *App) { a.Unreachable.Disabled = true }, SchedulerOnly},
	"Deployment":            {func(a *App) { a.Deployment.MaxFailures++ }, SchedulerOnly},
	"Dependencies":          {func(a *App) { a.Dependencies = []string{"/db"} }, SchedulerOnly},

	"Instances": {func(a *App) { a.Instances++ }, Scale},
}

func example() *App {
	grace := 3 * time.Second
	check := defaultHealthCheck()
	a := Default("/shop/cart")
	a.Version, a.LastConfigChange, a.LastScaling = 3, 2, 1
	a.Args = []string{"./cart", "-v"}
	a.Env = map[string]string{"A": "1"}
	a.Labels = map[string]string{"team": "shop"}
	a.Ports[0].Labels = map[string]string{"x": ""}
	a.Fetch = []Artifact{{URI: "http://h/x"}}
	a.HealthCheck = &check
	a.KillGrace = &grace
	a.Constraints = []Constraint{{Field: "hostname", Operator: Unique}}
	a.AcceptedResourceRoles = []string{"*"}
	return a
}

func TestCompare_KnowsEveryField(t *testing.T) {
	for field := range reflect.TypeFor[App]().Fields() {
		t.Run(field.Name, func(t *testing.T) {
			c, known := changes[field.Name]
			if !known {
				t.Fatal("the field is not in the table of changes: does it restart instances?")
			}
			if c.change == nil {
				return
			}
			from := example()
			to := from.Clone()
			c.change(to)
			if got := Compare(from, to); got.Effect() != c.effect {
				t.Errorf("effect %v, want %v: %+v", got.Effect(), c.effect, got)
			}
			if reflect.DeepEqual(from, to) {
				t.Error("the change changed nothing, or both: Clone shares what it should copy")
			}
		})
	}
}

func TestCompare_NilAndEmptyAreTheSame(t *testing.T) {
	from, to := Default("/a"), Default("/a")
	to.Args, to.Env, to.Labels, to.Fetch, to.Constraints = []string{}, map[string]string{}, map[string]string{}, []Artifact{}, []Constraint{}
	if got := Compare(from, to); got.Effect() != NoChange {
		t.Errorf("%+v", got)
	}
}

func TestStamp(t *testing.T) {
	old := example()
	for name, test := range map[string]struct {
		change                func(*App)
		configChange, scaling Version
	}{
		"nothing":   {func(*App) {}, 2, 1},
		"scale":     {func(a *App) { a.Instances++ }, 2, 9},
		"config":    {func(a *App) { a.Cmd = "y" }, 9, 1},
		"both":      {func(a *App) { a.Cmd = "y"; a.Instances++ }, 9, 9},
		"scheduler": {func(a *App) { a.KillSelection = OldestFirst }, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			next := old.Clone()
			test.change(next)
			got := Stamp(old, next, 9)
			if got.Version != 9 || got.LastConfigChange != test.configChange || got.LastScaling != test.scaling {
				t.Errorf("versions %d, %d, %d; want 9, %d, %d", got.Version, got.LastConfigChange, got.LastScaling, test.configChange, test.scaling)
			}
			if next.Version != old.Version {
				t.Error("the argument was changed")
			}
		})
	}
	if got := Stamp(nil, old, 9); got.Version != 9 || got.LastConfigChange != 9 || got.LastScaling != 9 {
		t.Errorf("new app has versions %d, %d, %d", got.Version, got.LastConfigChange, got.LastScaling)
	}
}

func TestStamper_RisesWhateverTheClockDoes(t *testing.T) {
	var s Stamper
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.Observe(Version(at.UnixMilli()))
	var last Version = Version(at.UnixMilli())
	for _, now := range []time.Time{at, at, at.Add(-time.Hour), at.Add(time.Second), at.Add(time.Second)} {
		v := s.Next(now)
		if v <= last {
			t.Errorf("at %v: %v follows %v", now, v, last)
		}
		last = v
	}
	s.Observe(1)
	if v := s.Next(at); v <= last {
		t.Errorf("after observing an old version, %v follows %v", v, last)
	}
}

func TestVersion_Text(t *testing.T) {
	const text = "2026-03-01T12:00:00.007Z"
	v, err := ParseVersion(text)
	if err != nil || v.String() != text {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := ParseVersion("2026-03-01T13:00:00.007+01:00"); err != nil || v.String() != text {
		t.Errorf("with a zone: %v, %v", v, err)
	}
	for _, bad := range []string{"", "2026-03-01", "1772366400007", "0001-01-01T00:00:00Z"} {
		if v, err := ParseVersion(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}

func TestCheckID(t *testing.T) {
	for id, good := range map[string]bool{
		"/a": true, "/shop/cart-2": true, "/a.b/c.d": true, "/0": true, "/restart/a": true,
		"": false, "/": false, "a": false, "/a/": false, "//a": false, "/A": false, "/a_b": false, "/-a": false, "/a-": false,
		"/a..b": false, "/.": false, "/a/..": false, "/ä": false, "/a b": false, "/a\n": false, "/versions": false, "/a/restart": false,
		"/" + strings.Repeat("a", maxIDLength-1): true, "/" + strings.Repeat("a", maxIDLength): false,
	} {
		if err := CheckID(id); (err == nil) != good {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestIDOfTask(t *testing.T) {
	const uuid = "5e2f6f0e-7a3f-4c5e-9d41-0c2b7a5f1e11"
	for _, id := range []string{"/a", "/shop/cart-2", "/a.b/c"} {
		if got, ok := IDOfTask(TaskPrefix(id) + "." + uuid); !ok || got != id {
			t.Errorf("%s became %s, %v", id, got, ok)
		}
	}
	for _, bad := range []string{"", ".", "a", "." + uuid, "A." + uuid, "a__b." + uuid} {
		if id, ok := IDOfTask(bad); ok {
			t.Errorf("%q is a task of %s", bad, id)
		}
	}
}

func TestConflict(t *testing.T) {
	ids := []string{"/a", "/b/c", "/b/c-d", "/b/cc", "/d/e/f"}
	slices.Sort(ids)
	for id, want := range map[string]string{
		"/a": "", "/b/c": "", "/aa": "", "/b/d": "", "/b/c-e": "", "/d/e/g": "", "/e": "",
		"/a/x": "/a", "/a/x/y": "/a", "/b": "/b/c", "/b/c/x": "/b/c", "/d": "/d/e/f", "/d/e": "/d/e/f", "/d/e/f/g": "/d/e/f",
	} {
		if got, found := Conflict(id, SortedIDs(ids)); got != want || found != (want != "") {
			t.Errorf("%s: conflict with %q, %v; want %q", id, got, found, want)
		}
	}
}

// Against the definition, over random trees.
func TestConflict_IsAboveOrBelow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "a-b", "a.b", "b", "0"}
	newID := func() string {
		id := ""
		for range 1 + random.IntN(4) {
			id += "/" + parts[random.IntN(len(parts))]
		}
		return id
	}
	for range 5000 {
		ids := make([]string, random.IntN(6))
		for i := range ids {
			ids[i] = newID()
		}
		slices.Sort(ids)
		id := newID()
		want := slices.ContainsFunc(ids, func(other string) bool {
			return strings.HasPrefix(other, id+"/") || strings.HasPrefix(id, other+"/")
		})
		if other, got := Conflict(id, SortedIDs(ids)); got != want {
			t.Fatalf("%s among %v: %q, %v", id, ids, other, got)
		}
	}
}

func TestHealthCheck_Mesos(t *testing.T) {
	const timing = `,"ports":[0,0],"healthChecks":[{"gracePeriodSeconds":1,"delaySeconds":0,"intervalSeconds":2,"timeoutSeconds":3,"maxConsecutiveFailures":0,`
	number := func(v float64) *float64 { return &v }
	word := func(v string) *string { return &v }
	yes, never := true, uint32(0)
	want := func(change func(*mesos.HealthCheck)) *mesos.HealthCheck {
		h := &mesos.HealthCheck{GracePeriodSeconds: number(1), DelaySeconds: number(0), IntervalSeconds: number(2), TimeoutSeconds: number(3), ConsecutiveFailures: &never}
		change(h)
		return h
	}
	for name, test := range map[string]struct {
		check string
		want  *mesos.HealthCheck
	}{
		"http": {`"path":"/x","portIndex":1}]`, want(func(h *mesos.HealthCheck) {
			h.Type = mesos.HealthCheck_HTTP
			h.HTTP = &mesos.HealthCheck_HTTPCheckInfo{Port: 31002, Scheme: word("http"), Path: word("/x")}
		})},
		"https on a fixed port": {`"protocol":"MESOS_HTTPS","port":443}]`, want(func(h *mesos.HealthCheck) {
			h.Type = mesos.HealthCheck_HTTP
			h.HTTP = &mesos.HealthCheck_HTTPCheckInfo{Port: 443, Scheme: word("https"), Path: word("/")}
		})},
		"tcp": {`"protocol":"TCP"}]`, want(func(h *mesos.HealthCheck) {
			h.Type = mesos.HealthCheck_TCP
			h.TCP = &mesos.HealthCheck_TCPCheckInfo{Port: 31001}
		})},
		"command": {`"protocol":"COMMAND","command":{"value":"true"}}]`, want(func(h *mesos.HealthCheck) {
			h.Type = mesos.HealthCheck_COMMAND
			h.Command = &mesos.CommandInfo{Shell: &yes, Value: word("true")}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			a := mustParse(t, `{"id":"/a","cmd":"x"`+timing+test.check+`}`)
			if diff := cmp.Diff(test.want, a.HealthCheck.Mesos([]int{31001, 31002})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if (*HealthCheck)(nil).Mesos(nil) != nil {
		t.Error("no check became one")
	}
}

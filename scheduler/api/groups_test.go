package api_test

import (
	"strings"
	"testing"

	"pacer/scheduler/api"
)

// shop is a group with apps, groups within, and a neighbour.
func shop(t *testing.T) *server {
	s := newServer(t)
	for _, body := range []string{
		`{"id":"/shop/cart","cmd":"cart","instances":2}`,
		`{"id":"/shop/eu/pay","cmd":"pay","instances":3}`,
		`{"id":"/shop/eu/de/tax","cmd":"tax"}`,
		`{"id":"/shopping","cmd":"other"}`,
	} {
		s.must("POST", "/v2/apps", body)
	}
	s.backend.Finish()
	return s
}

// apps are the IDs of all that exist.
func (s *server) apps() string {
	s.t.Helper()
	var got struct{ Apps []struct{ ID string } }
	decode(s.t, s.must("GET", "/v2/apps", ""), &got)
	var ids []string
	for _, a := range got.Apps {
		ids = append(ids, a.ID)
	}
	return strings.Join(ids, " ")
}

func TestGroups_AreAViewOverPaths(t *testing.T) {
	s := shop(t)
	expect(t, "group.json", s.must("GET", "/v2/groups/shop", "").Body.Bytes())
	type group struct {
		ID     string
		Apps   []struct{ ID string }
		Groups []group
	}
	for target, want := range map[string]struct {
		id           string
		apps, groups int
	}{
		"/v2/groups":                         {"/", 1, 1},
		"/v2/groups/":                        {"/", 1, 1},
		"/v2/groups//shop/eu":                {"/shop/eu", 1, 1},
		"/v2/groups/shop?embed=group.apps":   {"/shop", 1, 0},
		"/v2/groups/shop?embed=group.groups": {"/shop", 0, 1},
		"/v2/groups/shop?embed=group.groups&embed=group.apps":    {"/shop", 1, 1},
		"/v2/groups/shop/eu/de?embed=group.apps.tasks&embed=foo": {"/shop/eu/de", 1, 0},
	} {
		var got group
		decode(t, s.must("GET", target, ""), &got)
		if got.ID != want.id || len(got.Apps) != want.apps || len(got.Groups) != want.groups {
			t.Errorf("%s: %+v", target, got)
		}
	}
	want(t, s.do("GET", "/v2/groups/none", ""), 404, `{"message":"Group '/none' does not exist"}`)
	want(t, s.do("GET", "/v2/groups/shop/cart", ""), 404, `{"message":"Group '/shop/cart' does not exist"}`)
	want(t, s.do("GET", "/v2/groups/shop/versions", ""), 200, `["2026-03-01T12:00:03.000Z"]`)
	var listed struct{ Apps []struct{ ID string } }
	if decode(t, s.must("GET", "/v2/groups/shop/eu/apps", ""), &listed); len(listed.Apps) != 2 {
		t.Errorf("apps of a group: %+v", listed)
	}
}

func TestGroups_Change(t *testing.T) {
	for name, test := range map[string]struct {
		method, target, body string
		status               int
		apps                 string // afterwards
		parts                int    // of the deployment
	}{
		"create":                       {"POST", "/v2/groups", `{"id":"/team","apps":[{"id":"one","cmd":"x"},{"id":"/team/two","cmd":"x"}],"groups":[{"id":"sub","apps":[{"id":"three","cmd":"x"}]}],"dependencies":[]}`, 201, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping /team/one /team/sub/three /team/two", 3},
		"create at its address":        {"POST", "/v2/groups/team", `{"apps":[{"id":"one","cmd":"x"}]}`, 201, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping /team/one", 1},
		"create what exists":           {"POST", "/v2/groups", `{"id":"/shop","apps":[]}`, 409, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"create where an app is":       {"POST", "/v2/groups", `{"id":"/shopping","apps":[]}`, 409, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"put replaces listed apps":     {"PUT", "/v2/groups/shop", `{"apps":[{"id":"new","cmd":"x"}]}`, 200, "/shop/eu/de/tax /shop/eu/pay /shop/new /shopping", 2},
		"put replaces listed groups":   {"PUT", "/v2/groups/shop", `{"groups":[{"id":"us","apps":[{"id":"x","cmd":"x"}]}]}`, 200, "/shop/cart /shop/us/x /shopping", 3},
		"put of a group within":        {"PUT", "/v2/groups/shop", `{"groups":[{"id":"eu","apps":[{"id":"pay","cmd":"y"}]}]}`, 200, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 1},
		"put creates":                  {"PUT", "/v2/groups", `{"id":"/team","apps":[{"id":"one","cmd":"x"}]}`, 200, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping /team/one", 1},
		"put of an array":              {"PUT", "/v2/groups/shop/eu", `[{"id":"pay","cmd":"y"},{"id":"more","cmd":"x"}]`, 200, "/shop/cart /shop/eu/de/tax /shop/eu/more /shop/eu/pay /shopping", 2},
		"scale":                        {"PUT", "/v2/groups/shop", `{"scaleBy":1.5}`, 200, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 3},
		"scale of nothing":             {"PUT", "/v2/groups/none", `{"scaleBy":2}`, 404, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"delete":                       {"DELETE", "/v2/groups/shop/eu", "", 200, "/shop/cart /shopping", 2},
		"delete of nothing":            {"DELETE", "/v2/groups/none", "", 404, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"dry run changes nothing":      {"PUT", "/v2/groups/shop?dryRun=true", `{"apps":[]}`, 200, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"version alone":                {"PUT", "/v2/groups/shop", `{"version":"2026-03-01T12:00:03.000Z"}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"scale and apps":               {"PUT", "/v2/groups/shop", `{"scaleBy":2,"apps":[]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"app of another group":         {"PUT", "/v2/groups/shop", `{"apps":[{"id":"/other/x","cmd":"x"}]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"the same app twice":           {"PUT", "/v2/groups/shop", `{"apps":[{"id":"eu/pay","cmd":"x"}],"groups":[{"id":"eu","apps":[{"id":"pay","cmd":"x"}]}]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"pods":                         {"PUT", "/v2/groups/shop", `{"pods":[{"id":"x"}]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"body for another group":       {"PUT", "/v2/groups/shop", `{"id":"/other","apps":[]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"nonsense":                     {"PUT", "/v2/groups/shop", `{"apps":3}`, 400, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"no ID":                        {"POST", "/v2/groups", `{"apps":[]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
		"one bad app leaves all as is": {"PUT", "/v2/groups/shop", `{"apps":[{"id":"new","cmd":"x"},{"id":"bad","cmd":"x","cpus":-1}]}`, 422, "/shop/cart /shop/eu/de/tax /shop/eu/pay /shopping", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop(t)
			r := s.do(test.method, test.target, test.body)
			if r.Code != test.status {
				t.Fatalf("%d %s", r.Code, r.Body)
			}
			if got := s.apps(); got != test.apps {
				t.Errorf("apps are %s\n    want %s", got, test.apps)
			}
			var list []struct{ AffectedApps []string }
			decode(t, s.must("GET", "/v2/deployments", ""), &list)
			parts := 0
			for _, d := range list {
				parts += len(d.AffectedApps)
			}
			if len(list) > 1 || parts != test.parts {
				t.Errorf("deployments %+v, want one of %d parts", list, test.parts)
			}
		})
	}
	s := shop(t)
	s.must("PUT", "/v2/groups/shop", `{"scaleBy":1.5}`)
	if cart, pay := s.backend.Current("/shop/cart").Instances, s.backend.Current("/shop/eu/pay").Instances; cart != 3 || pay != 5 {
		t.Errorf("2 and 3 instances scaled by 1.5: %d and %d", cart, pay)
	}
}

func TestGroups_EveryMistakeHasItsPath(t *testing.T) {
	s := shop(t)
	want(t, s.do("PUT", "/v2/groups/shop", `{"apps":[{"id":"a","cmd":"x","cpus":-1}],"groups":[{"id":"g","apps":[{"id":"b"}]}]}`), 422,
		`{"message":"Object is not valid","details":[{"path":"/apps(0)/cpus","errors":["is -1, expected at least 0"]},{"path":"/groups(0)/apps(0)","errors":["has no command: give cmd, a line for the shell, or args, a program and its arguments"]}]}`)
}

func TestApps_Arrays(t *testing.T) {
	s := shop(t)
	r := s.must("PUT", "/v2/apps", `[{"id":"/shop/cart","instances":5},{"id":"/new","cmd":"x"}]`)
	if !strings.Contains(r.Body.String(), `"deploymentId"`) || r.Header().Get("Marathon-Deployment-Id") == "" {
		t.Errorf("%s", r.Body)
	}
	if a := s.backend.Current("/shop/cart"); a.Instances != 5 || a.Cmd != "cart" || s.backend.Current("/new") == nil {
		t.Errorf("made %s", a.JSON())
	}
	s.backend.Finish()
	want(t, s.do("PATCH", "/v2/apps", `[{"id":"/none","cmd":"x"}]`), 404, `{"message":"App '/none' does not exist"}`)
	want(t, s.do("PUT", "/v2/apps", `[{"id":"/new","cpus":-1},{"id":"/other"}]`), 422,
		`{"message":"Object is not valid","details":[{"path":"(0)/cpus","errors":["is -1, expected at least 0"]},{"path":"(1)","errors":["has no command: give cmd, a line for the shell, or args, a program and its arguments"]}]}`)
	want(t, s.do("PUT", "/v2/apps", `[{"id":"/new","mem":1},{"id":"new"}]`), 422,
		`{"message":"Object is not valid","details":[{"path":"(1)/id","errors":["is /new, as is that of app 0: give each app once"]}]}`)
	if r := s.do("PUT", "/v2/apps", `{"id":"/new"}`); r.Code != 400 {
		t.Errorf("no array: %d %s", r.Code, r.Body)
	}
}

func TestDryRun_SaysWhatRestarts(t *testing.T) {
	s := newServer(t)
	s.must("POST", "/v2/apps", hello)
	s.backend.Finish()
	s.backend.SetTasks("/hello", api.Counts{Running: 2})
	want(t, s.do("PUT", "/v2/apps/hello?dryRun=true", `{"env":{"A":"b"},"backoffSeconds":5,"instances":3}`), 200,
		`{"steps":[{"actions":[{"action":"RestartApplication","app":"/hello"}]}],"changes":[{"app":"/hello","action":"RestartApplication","restarts":2,"because":["env"],"withoutRestart":["backoffSeconds"],"instancesFrom":2,"instancesTo":3}]}`)
	want(t, s.do("PUT", "/v2/apps/hello?dryRun=true", `{"backoffSeconds":5}`), 200,
		`{"steps":[{"actions":[{"action":"ScaleApplication","app":"/hello"}]}],"changes":[{"app":"/hello","action":"ScaleApplication","restarts":0,"withoutRestart":["backoffSeconds"]}]}`)
	want(t, s.do("PUT", "/v2/apps/hello?dryRun=true", `{}`), 200, `{"steps":[],"changes":[]}`)
	want(t, s.do("DELETE", "/v2/apps/hello?dryRun=true", ""), 200,
		`{"steps":[{"actions":[{"action":"StopApplication","app":"/hello"}]}],"changes":[{"app":"/hello","action":"StopApplication","restarts":2}]}`)
	if s.backend.Current("/hello").Instances != 2 || len(s.backend.Deploying()) != 0 {
		t.Error("a dry run changed something")
	}
}

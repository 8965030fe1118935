package app

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files in testdata that hold what is expected")

// expect compares got with a file, or writes the file with -update.
func expect(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// eachFile runs a test for each definition in a folder of testdata.
func eachFile(t *testing.T, folder string, run func(t *testing.T, file string, data []byte)) {
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			run(t, strings.TrimSuffix(file, ".json"), data)
		})
	}
}

func mustParse(t testing.TB, data string) *App {
	t.Helper()
	a, err := Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParse_Good(t *testing.T) {
	eachFile(t, "good", func(t *testing.T, file string, data []byte) {
		a := mustParse(t, string(data))
		var pretty strings.Builder
		encoder := json.NewEncoder(&pretty)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(json.RawMessage(a.JSON())); err != nil {
			t.Fatal(err)
		}
		expect(t, file+".golden", []byte(pretty.String()))

		// What a GET returns can be sent back, and changes nothing.
		again, err := a.Merge(a.JSON())
		if err != nil {
			t.Fatal(err)
		}
		if effect := Compare(a, again).Effect(); effect != NoChange {
			t.Errorf("its own JSON put onto it has effect %v: %+v", effect, Compare(a, again))
		}
	})
}

func TestP12_EachMistakeIsNamed(t *testing.T) {
	eachFile(t, "bad", func(t *testing.T, file string, data []byte) {
		_, err := Parse(data)
		var problems *Error
		if !errors.As(err, &problems) {
			t.Fatalf("error is %v, want an *Error", err)
		}
		if len(problems.Problems) != 1 {
			t.Errorf("%d problems, the file has one mistake: %v", len(problems.Problems), err)
		}
		kind := "invalid"
		if problems.Malformed {
			kind = "malformed"
		}
		expect(t, file+".golden", []byte(kind+": "+err.Error()+"\n"))
	})
}

func TestP12_AllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte(`{
		"id": "/Shop", "cmd": 5, "cpus": -1, "colour": "red",
		"healthChecks": [{"path": "x", "intervalSeconds": 0}],
		"labels": {"secret.env.A": "", "secret.env.B": "x"},
		"container": {"type": "DOCKER"}
	}`))
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatalf("error is %v, want an *Error", err)
	}
	if !problems.Malformed {
		t.Error("a mistyped field does not make it malformed")
	}
	var paths []string
	for _, p := range problems.Problems {
		paths = append(paths, p.Path)
	}
	want := []string{
		"/cmd", "/colour", "/container/type", "/cpus", "/healthChecks(0)/intervalSeconds", "/id",
		"/labels/secret.env.A", "/labels/secret.env.B",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// What the executor would refuse at launch is refused at submission.
func TestP12_LabelsAreReadAsTheExecutorDoes(t *testing.T) {
	for _, tc := range []struct {
		name, definition string
		want             []string
	}{
		{"good", `"portDefinitions": [{"port": 0, "name": "http", "labels": {"consul": "shop"}}], "healthChecks": [{"path": "/"}],
			"labels": {"service.name": "shop", "service.http.name": "shop-http", "service.tags": "a,b", "service.required": "false", "drain": "2s",
			"health.host": "shop.example", "health.db.command": "true", "team": "x"}`, nil},
		{"every mistake", `"portDefinitions": [{"port": 0, "name": "http", "labels": {"consul": "a/b"}}], "healthChecks": [{"path": "/"}],
			"labels": {"service.name": "a/b", "service.htp.name": "x", "service.required": "yes", "drain": "soon",
			"health.hots": "x", "health.db.failures": "many"}`,
			[]string{"/labels/drain", "/labels/health.db.failures", "/labels/health.hots", "/labels/service.htp.name", "/labels/service.name", "/labels/service.required", "/portDefinitions(0)/labels/consul"}},
		{"labels without what they are about", `"portDefinitions": [], "labels": {"service.name": "shop", "health.host": "h"}`, []string{"/labels/health.host", "/labels/service.name"}},
		{"mistakes in the definition come first", `"portDefinitions": [{"port": -1}], "labels": {"service.htp.name": "x"}`, []string{"/portDefinitions(0)/port"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(`{"id": "/shop", "cmd": "true", ` + tc.definition + `}`))
			var paths []string
			var problems *Error
			if errors.As(err, &problems) {
				for _, p := range problems.Problems {
					paths = append(paths, p.Path)
				}
			}
			if diff := cmp.Diff(tc.want, paths); diff != "" {
				t.Errorf("paths (-want +got):\n%s\n%v", diff, err)
			}
		})
	}
}

// A hostile body gets no hostile reply.
func TestP12_ProblemsAreBounded(t *testing.T) {
	var unknown strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&unknown, `,"instance%d":1`, i)
	}
	for name, body := range map[string]string{
		"unknown fields": `{"id":"/a","cmd":"x"` + unknown.String() + `}`,
		"bad items":      `{"id":"/a","cmd":"x","ports":["x"` + strings.Repeat(`,"x"`, 50_000) + `]}`,
		"bad names":      `{"id":"/a","cmd":"x","env":{"a":1` + strings.ReplaceAll(unknown.String(), "instance", "A=") + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(body))
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) != maxProblems+1 || problems.Problems[maxProblems].Path != "/" {
				t.Errorf("%.200v", err)
			}
		})
	}
	for name, body := range map[string]string{
		"/portDefinitions": `{"id":"/a","cmd":"x","ports":[0` + strings.Repeat(",0", 50_000) + `]}`,
		"/cmd":             `{"id":"/a","cmd":"` + strings.Repeat("x", 1<<17) + `"}`,
		"/env/A":           `{"id":"/a","cmd":"x","env":{"A":"` + strings.Repeat("x", 1<<17) + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(body))
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) != 1 || problems.Problems[0].Path != name {
				t.Errorf("%.200v", err)
			}
		})
	}
}

// A value in the wrong place may well be a secret.
func TestP5_ErrorsShowNoValues(t *testing.T) {
	_, err := Parse([]byte(`{"id": "/a", "cmd": "x", "env": {"A": "hunter2\u0000", "B": {"x": "hunter2"}},
		"labels": {"secret.env.A": "hunter2"}, "args": ["hunter2"]}`))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
}

func TestMerge(t *testing.T) {
	base := mustParse(t, `{"id": "/a", "cmd": "x", "env": {"A": "1", "B": "2"}, "instances": 3, "ports": [8080],
		"upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5}}`)
	before := string(base.JSON())
	for name, test := range map[string]struct {
		body string
		want func(*App)
	}{
		"nothing":                    {`{}`, func(*App) {}},
		"nulls mean not given":       {`{"cmd": null, "env": null, "ports": null, "instances": null}`, func(*App) {}},
		"scale":                      {`{"id": "/a", "instances": 5}`, func(a *App) { a.Instances = 5 }},
		"maps are replaced":          {`{"env": {"C": "3"}}`, func(a *App) { a.Env = map[string]string{"C": "3"} }},
		"objects are replaced":       {`{"upgradeStrategy": {"minimumHealthCapacity": 0}}`, func(a *App) { a.UpgradeStrategy = UpgradeStrategy{0, 1} }},
		"args replace cmd":           {`{"args": ["y"]}`, func(a *App) { a.Cmd, a.Args = "", []string{"y"} }},
		"no ports":                   {`{"ports": []}`, func(a *App) { a.Ports = nil }},
		"version beside other parts": {`{"version": "2020-01-01T00:00:00.000Z", "instances": 4}`, func(a *App) { a.Instances = 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := base.Merge([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			want := base.Clone()
			test.want(want)
			if diff := cmp.Diff(string(want.JSON()), string(got.JSON())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if after := string(base.JSON()); after != before {
		t.Errorf("merging changed the base:\n%s\n%s", before, after)
	}
	if _, err := base.Merge([]byte(`{"id": "/b"}`)); err == nil {
		t.Error("another app's ID was accepted")
	}
	if _, err := base.Merge([]byte(`{"cmd": "x", "args": ["y"]}`)); err == nil {
		t.Error("both cmd and args were accepted")
	}
}

func TestBody_App(t *testing.T) {
	for name, test := range map[string]struct{ body, id, want string }{
		"ID from the address":   {`{"cmd": "x"}`, "/a/b", "/a/b"},
		"ID from both":          {`{"id": "a/b", "cmd": "x"}`, "/a/b", "/a/b"},
		"ID from the body":      {`{"id": "a/b", "cmd": "x"}`, "", "/a/b"},
		"IDs that disagree":     {`{"id": "/a", "cmd": "x"}`, "/b", ""},
		"bad ID in the address": {`{"cmd": "x"}`, "/A", ""},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := ReadBody([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			a, err := body.App(test.id)
			if (err == nil) != (test.want != "") || err == nil && a.ID != test.want {
				t.Errorf("app %+v, error %v; want ID %q", a, err, test.want)
			}
		})
	}
}

func TestBody_Rollback(t *testing.T) {
	const version = "2026-03-01T12:00:00.000Z"
	for name, test := range map[string]struct {
		body     string
		ok, fail bool
	}{
		"version alone":         {`{"version": "` + version + `"}`, true, false},
		"version and ID":        {`{"version": "` + version + `", "id": "/a", "cmd": null}`, true, false},
		"version and more":      {`{"version": "` + version + `", "cmd": "x"}`, false, false},
		"no version":            {`{"cmd": "x"}`, false, false},
		"not a version":         {`{"version": "yesterday"}`, true, true},
		"version of wrong type": {`{"version": 1}`, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := ReadBody([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			got, ok, err := body.Rollback()
			if ok != test.ok || (err != nil) != test.fail {
				t.Fatalf("ok %v, error %v", ok, err)
			}
			if ok && err == nil && got.String() != version {
				t.Errorf("version %s, want %s", got, version)
			}
		})
	}
}

// Whatever is accepted survives being rendered, put again, stored and loaded.
func FuzzParse(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		files, _ := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Parse(data)
		if err != nil {
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) == 0 {
				t.Fatalf("error without problems: %v", err)
			}
			return
		}
		again, err := Parse(a.JSON())
		if err != nil {
			t.Fatalf("%s: %v", a.JSON(), err)
		}
		if string(again.JSON()) != string(a.JSON()) {
			t.Fatalf("%s became %s", a.JSON(), again.JSON())
		}
		stored, err := Encode(a)
		if err != nil {
			return // too large
		}
		loaded, err := Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		if change := Compare(a, loaded); change.Effect() != NoChange {
			t.Fatalf("storing changed %+v", change)
		}
	})
}

package app

import (
	"errors"
	"strings"
	"testing"
)

func TestReadGroup_IDs(t *testing.T) {
	g, err := ReadGroup([]byte(`{"id":"shop","apps":[{"id":"cart","cmd":"x"},{"id":"/shop/pay","cmd":"x"}],
		"groups":[{"id":"eu","apps":[{"id":"tax","cmd":"x"}]},{"id":"/shop/us","groups":[]}],"dependencies":null,"version":"2026-01-01T00:00:00.000Z"}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if g.ID != "/shop" || g.Apps[0].ID() != "/shop/cart" || g.Apps[1].ID() != "/shop/pay" || g.Groups[0].ID != "/shop/eu" ||
		g.Groups[0].Apps[0].ID() != "/shop/eu/tax" || g.Groups[0].Apps[0].At() != "/groups(0)/apps(0)" || g.Groups[1].ID != "/shop/us" || !g.Groups[1].HasGroups || g.Groups[1].HasApps {
		t.Errorf("%+v", g)
	}
	a, err := g.Groups[0].Apps[0].App("/shop/eu/tax")
	if err != nil || a.ID != "/shop/eu/tax" || a.Cmd != "x" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestReadGroup_Refuses(t *testing.T) {
	for name, test := range map[string]struct{ id, body, path, says string }{
		"no ID":                   {"", `{"apps":[]}`, "/id", "missing"},
		"ID of another":           {"/a", `{"id":"/b","apps":[]}`, "/id", "leave it out"},
		"bad ID":                  {"", `{"id":"/A","apps":[]}`, "/id", "lower-case"},
		"ID of a number":          {"", `{"id":3,"apps":[]}`, "/id", "a string"},
		"app without ID":          {"/a", `{"apps":[{"cmd":"x"}]}`, "/apps(0)/id", "missing"},
		"app elsewhere":           {"/a", `{"apps":[{"id":"/b/c"}]}`, "/apps(0)/id", "not below"},
		"app that is no object":   {"/a", `{"apps":[3]}`, "/apps(0)", "an object"},
		"group elsewhere":         {"/a", `{"groups":[{"id":"/b"}]}`, "/groups(0)/id", "not below"},
		"group that is no object": {"/a", `{"groups":["b"]}`, "/groups(0)", "an object"},
		"unknown field":           {"/a", `{"app":[]}`, "/app", `did you mean "apps"`},
		"dependencies":            {"/a", `{"dependencies":["/b"]}`, "/dependencies", "not supported"},
		"no factor":               {"/a", `{"scaleBy":0}`, "/scaleBy", "at least 0.001"},
		"factor and groups":       {"/a", `{"scaleBy":2,"groups":[]}`, "/scaleBy", "together"},
		"version alone":           {"/a", `{"version":"x"}`, "/version", "no versions of their own"},
		"text":                    {"/a", `x`, "/", "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadGroup([]byte(test.body), test.id)
			var refused *Error
			if !errors.As(err, &refused) || refused.Problems[0].Path != test.path || !strings.Contains(refused.Problems[0].Errors[0], test.says) {
				t.Errorf("%v, want %s: %s", err, test.path, test.says)
			}
		})
	}
}

func TestRestore_KeepsTheConfigurationsVersion(t *testing.T) {
	first := Stamp(nil, Default("/a"), 10)
	changed := first.Clone()
	changed.Cmd, changed.Instances = "x", 5
	second := Stamp(first, changed, 20)
	back := Restore(second, first, 30)
	if back.Version != 30 || back.LastConfigChange != 10 || back.LastScaling != 30 || back.Cmd != "" || back.Instances != 1 {
		t.Errorf("%+v", back)
	}
	same := second.Clone()
	same.Instances = 1
	if again := Restore(Stamp(second, same, 25), first, 40); again.LastScaling != 25 {
		t.Errorf("scaled at %d, though the number is the same", again.LastScaling)
	}
}

func FuzzReadGroup(f *testing.F) {
	f.Add(`{"id":"/shop","apps":[{"id":"cart","cmd":"x"}],"groups":[{"id":"eu","apps":[]}]}`, "")
	f.Add(`[{"id":"a","cmd":"x"},{"id":"/b","args":["x"]}]`, "/")
	f.Add(`{"scaleBy":1.5}`, "/shop")
	f.Fuzz(func(t *testing.T, body, id string) {
		if g, err := ReadGroup([]byte(body), id); err == nil {
			visit(t, g)
		}
		if bodies, err := ReadBodies([]byte(body)); err == nil {
			for _, b := range bodies {
				check(t, b)
			}
		}
	})
}

func visit(t *testing.T, g *Group) {
	for _, b := range g.Apps {
		check(t, b)
	}
	for _, child := range g.Groups {
		visit(t, child)
	}
}

func check(t *testing.T, b *Body) {
	a, err := b.App(b.ID())
	var refused *Error
	if err != nil && (!errors.As(err, &refused) || !strings.HasPrefix(refused.Problems[0].Path, b.At())) {
		t.Errorf("error %v of a body at %q", err, b.At())
	}
	if err == nil && a.ID != b.ID() {
		t.Errorf("app %s of body %s", a.ID, b.ID())
	}
}

package secrets

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseLabels_ReadsEachNotation(t *testing.T) {
	for _, tc := range []struct {
		name, label, value string
		want               Declarations
	}{
		{"key", "secret.env.DB", "secret/web/db#password", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "password", 0}}}}},
		{"key and version", "secret.env.DB", "secret/web/db#password@3", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "password", 3}}}}},
		{"data element stays", "secret.env.DB", "secret/data/web/db#p", Declarations{Variables: []Variable{{"DB", Ref{"secret/data/web/db", "p", 0}}}}},
		{"URL", "secret.env.DB", "vault://secret/web/db?key=p", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "p", 0}}}}},
		{"URL with default key", "secret.env.DB", "vault://secret/web/db", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "value", 0}}}}},
		{"at sign with a key", "secret.env.DB", "/secret/web/db@password", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "password", 0}}}}},
		{"key of digits", "secret.env.DB", "secret/web/db#5", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "5", 0}}}}},
		{"space around", "secret.env.DB", "  secret/web/db#p ", Declarations{Variables: []Variable{{"DB", Ref{"secret/web/db", "p", 0}}}}},
		{"set", "secret.env-from.1", "secret/web/db", Declarations{VariableSets: []VariableSet{{"secret.env-from.1", Ref{"secret/web/db", "", 0}}}}},
		{"set with version", "secret.env-from.a", "secret/web/db@2", Declarations{VariableSets: []VariableSet{{"secret.env-from.a", Ref{"secret/web/db", "", 2}}}}},
		{"file", "secret.file.tls.key", "secret/web/tls#key", Declarations{Files: []File{{"tls.key", Ref{"secret/web/tls", "key", 0}, 0o400}}}},
		{"file with mode", "secret.file.tls.key", "secret/web/tls#key@4;mode=0440", Declarations{Files: []File{{"tls.key", Ref{"secret/web/tls", "key", 4}, 0o440}}}},
		{"whole secret as a file", "secret.file.all.json", "secret/web/db", Declarations{Files: []File{{"all.json", Ref{"secret/web/db", "", 0}, 0o400}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseLabels(map[string]string{tc.label: tc.value, "other": "x", "secretive": "y"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseLabels_ReadsWhatHappensOnChange(t *testing.T) {
	base := map[string]string{"secret.env.A": "kv/a#k"}
	for value, want := range map[string]Declarations{
		"noop":          {OnChange: ActionNone},
		"restart":       {OnChange: ActionRestart},
		"signal:HUP":    {OnChange: ActionSignal, Signal: "HUP"},
		"signal:SIGHUP": {OnChange: ActionSignal, Signal: "HUP"},
	} {
		got, err := ParseLabels(map[string]string{"secret.env.A": base["secret.env.A"], LabelOnChange: value, LabelRefresh: "5m"})
		if err != nil {
			t.Errorf("%s: %v", value, err)
		}
		if got.OnChange != want.OnChange || got.Signal != want.Signal || got.Refresh != 5*time.Minute {
			t.Errorf("%s: got %+v", value, got)
		}
	}
}

func TestParseLabels_NamesEveryMistakeAndQuotesNoValue(t *testing.T) {
	const canary = "hunter2"
	bad := map[string]string{
		"secret.env.NO_KEY":         "secret/" + canary,
		"secret.env.EMPTY":          "",
		"secret.env.PLAIN":          canary,
		"secret.env.EMPTY_KEY":      "secret/" + canary + "#",
		"secret.env.DOTS":           "secret/../" + canary + "#k",
		"secret.env.DOT":            "secret/./" + canary + "#k",
		"secret.env.DOUBLE":         "secret//" + canary + "#k",
		"secret.env.ENCODED":        "secret/%2e%2e/" + canary + "#k",
		"secret.env.QUERY":          "secret/" + canary + "?version=1#k",
		"secret.env.SPACE":          "secret/a " + canary + "#k",
		"secret.env.NUL":            "secret/a\x00" + canary + "#k",
		"secret.env.TRAILING":       "secret/" + canary + "/#k",
		"secret.env.VERSION0":       "secret/" + canary + "#k@0",
		"secret.env.VERSION":        "secret/" + canary + "#k@x",
		"secret.env.VERSIONBIG":     "secret/" + canary + "#k@99999999999999999999",
		"secret.env.NEGATIVE":       "secret/" + canary + "#k@-1",
		"secret.env.TWO_HASHES":     "secret/" + canary + "#k#l",
		"secret.env.URL_QUERY":      "vault://secret/" + canary + "?version=3",
		"secret.env.URL_KEYS":       "vault://secret/" + canary + "?key=a&key=b",
		"secret.env.1DIGIT":         "secret/a#k",
		"secret.env.A=B":            "secret/a#k",
		"secret.env.":               "secret/a#k",
		"secret.env.PACER_X":        "secret/a#k",
		"secret.env-from.":          "secret/a",
		"secret.env-from.key":       "secret/a#" + canary,
		"secret.file.":              "secret/a#k",
		"secret.file...":            "secret/a#k",
		"secret.file.a/b":           "secret/a#k",
		"secret.file.mode":          "secret/a#k;mode=" + canary,
		"secret.file.suid":          "secret/a#k;mode=4755",
		"secret.file.option":        "secret/a#k;owner=" + canary,
		"secret.file.ownerless":     "secret/a#k;mode=0040",
		"secret.on-change":          canary,
		"secret.refresh":            canary,
		"secret.unknown":            canary,
		"secret.":                   canary,
		"secret.env.LONG_" + canary: "secret/" + strings.Repeat("x", 600) + "#k",
	}
	_, err := ParseLabels(bad)
	var errs LabelErrors
	if !errors.As(err, &errs) {
		t.Fatalf("error %v is no LabelErrors", err)
	}
	named := map[string]bool{}
	for _, e := range errs {
		named[e.Label] = true
		if strings.Contains(e.Problem, canary) {
			t.Errorf("%s: problem quotes the value: %s", e.Label, e.Problem)
		}
	}
	for label, value := range bad {
		if !named[label] {
			t.Errorf("label %s with %q was accepted", label, value)
		}
	}
	for name, value := range map[string]string{"short": "1s", "negative": "-5m", "bare": "5"} {
		if _, err := ParseLabels(map[string]string{"secret.env.A": "kv/a#k", LabelRefresh: value}); err == nil {
			t.Errorf("refresh %s was accepted", name)
		}
	}
	if _, err := ParseLabels(map[string]string{LabelOnChange: "restart"}); err == nil {
		t.Error("on-change without a secret was accepted")
	}
}

func FuzzParseLabels(f *testing.F) {
	for _, seed := range [][2]string{
		{"secret.env.DB", "secret/web/db#password@3"},
		{"secret.env.DB", "vault://secret/web/db?key=p"},
		{"secret.env.DB", "/secret/web/db@password"},
		{"secret.env-from.1", "secret/web@2"},
		{"secret.file.tls.key", "secret/web/tls#key;mode=0440"},
		{"secret.on-change", "signal:HUP"},
		{"secret.refresh", "5m"},
		{"secret.env.X", "a/..@@#;?"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, label, value string) {
		d, err := ParseLabels(map[string]string{label: value})
		if err != nil {
			return
		}
		for _, v := range d.Variables {
			if CheckPath(v.Ref.Path) != "" || v.Ref.Key == "" || v.Ref.Version < 0 {
				t.Errorf("accepted %q=%q as %+v", label, value, v)
			}
			// The canonical notation means the same.
			again, err := ParseLabels(map[string]string{label: v.Ref.String()})
			if err != nil || again.Variables[0] != v {
				t.Errorf("%q=%q is %+v; its canonical form %q is %+v, %v", label, value, v, v.Ref, again, err)
			}
		}
		for _, file := range d.Files {
			if strings.ContainsAny(file.Name, "/\x00") || file.Mode&^0o777 != 0 {
				t.Errorf("accepted %q=%q as %+v", label, value, file)
			}
		}
	})
}

package artifact

import (
	"strings"
	"testing"
)

func TestValidate_NamesTheMistakeAndShowsNoCredential(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	for _, tc := range []struct {
		name string
		uri  URI
		want string // in the error; empty is none
	}{
		{"http", URI{Value: "http://host/a/app.tgz", SHA256: sum}, ""},
		{"absolute path", URI{Value: "/opt/app.tgz"}, ""},
		{"spaces around it", URI{Value: " https://host/app "}, ""},
		{"localhost", URI{Value: "file://localhost/opt/app"}, ""},
		{"saved below a folder", URI{Value: "https://host/", OutputFile: "lib/app.jar"}, ""},
		{"query", URI{Value: "https://host/app?x=1"}, ""},
		{"other scheme", URI{Value: "hdfs://host/app"}, "not http, https or file"},
		{"relative", URI{Value: "app.tgz"}, "not http, https or file"},
		{"no host", URI{Value: "http:///app"}, "has no host"},
		{"file with a host", URI{Value: "file://host/app"}, "names a host"},
		{"no name", URI{Value: "https://host/"}, "set output_file"},
		{"parent", URI{Value: "https://host/.."}, "set output_file"},
		{"saved outside", URI{Value: "https://host/a", OutputFile: "../a"}, "leads out"},
		{"saved outside, by detours", URI{Value: "https://host/a", OutputFile: "b/../../a"}, "leads out"},
		{"saved absolutely", URI{Value: "https://host/a", OutputFile: "/a"}, "must be relative"},
		{"saved as the directory", URI{Value: "https://host/a", OutputFile: "."}, "leads out"},
		{"backslash", URI{Value: `https://host/a\b`}, "encode it"},
		{"checksum", URI{Value: "https://host/a", SHA256: "abc"}, "64 hexadecimal"},
		{"not to be parsed", URI{Value: "https://us:hunter22@ho st/a"}, "is no URI"},
		{"credentials", URI{Value: "ftp://user:hunter22@host/a?token=hunter22"}, "ftp://host/a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.uri.Validate()
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter22")):
				t.Errorf("%v, want %q in it", err, tc.want)
			}
		})
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("https://host/a?b", "out/put")
	f.Add("/a/b", "..")
	f.Fuzz(func(t *testing.T, value, output string) {
		u := URI{Value: value, OutputFile: output}
		if u.Validate() == nil && !isLocal(u.name()) {
			t.Errorf("%q, %q is saved as %q", value, output, u.name())
		}
	})
}

package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ownFile is a stderr as an agent opens it, and a second handle on it.
func ownFile(t *testing.T, dir string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, StderrName), os.O_CREATE|os.O_WRONLY|flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOwn_RotatesTheFileThatOthersHaveOpen(t *testing.T) {
	for name, flags := range map[string]int{"append": os.O_APPEND, "not append": 0} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			stderr := ownFile(t, dir, flags)
			io.WriteString(stderr, "what the fetcher wrote\n")
			o := NewOwn(stderr, dir, Policy{MaxSize: minSize, MaxFiles: 1000})
			if err := o.Reason(); err != nil {
				t.Fatal(err)
			}
			want := []byte("what the fetcher wrote\n")
			for i := range 1000 {
				line := fmt.Appendf(nil, "{\"line\":%d}\n", i)
				want = append(want, line...)
				if _, err := o.Write(line); err != nil {
					t.Fatal(err)
				}
			}
			// A crash writes to the descriptor itself.
			io.WriteString(stderr, "panic: bang\n")
			want = append(want, "panic: bang\n"...)
			all := files(t, dir, StderrName)
			if got := bytes.Join(all, nil); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in %d files, want the %d written", len(got), len(all), len(want))
			}
			if len(all) < 3 {
				t.Errorf("%d files, want rotation", len(all))
			}
			for i, b := range all {
				if len(b) > minSize || b[len(b)-1] != '\n' {
					t.Errorf("file %d: %d bytes", i, len(b))
				}
			}
		})
	}
}

func TestOwn_StaysBoundedWhenItCannotRotate(t *testing.T) {
	dir := t.TempDir()
	stderr := ownFile(t, dir, os.O_APPEND)
	// Not even root opens a directory for writing.
	if err := os.Mkdir(filepath.Join(dir, StderrName+".1"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := NewOwn(stderr, dir, Policy{MaxSize: minSize, MaxFiles: 1})
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 1000 {
		if _, err := o.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, StderrName))
	if err != nil || len(b) > 2*minSize+200 || !bytes.HasPrefix(b, []byte(`{"level":"error","error":"open log stderr.1`)) {
		t.Errorf("%d bytes, %v: %.100s", len(b), err, b)
	}
}

func TestOwn_LeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	elsewhere := ownFile(t, t.TempDir(), os.O_APPEND)
	ownFile(t, dir, os.O_APPEND)
	o := NewOwn(elsewhere, dir, Policy{MaxSize: minSize, MaxFiles: 1})
	if o.Reason() == nil {
		t.Fatal("it would rotate somebody else's file")
	}
	for range 100 {
		io.WriteString(o, strings.Repeat("x", 100))
	}
	if info, err := elsewhere.Stat(); err != nil || info.Size() != 10_000 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

func TestPolicyFromEnv_NamesEveryProblem(t *testing.T) {
	for _, tc := range []struct {
		size, files string
		want        Policy
		problems    []string
	}{
		{"", "", DefaultPolicy(), nil},
		{"1", "0", Policy{MaxSize: 1 << 20}, nil},
		{"0", "1001", Policy{}, []string{EnvSize, EnvFiles}},
		{"10MB", "-1", Policy{}, []string{EnvSize, EnvFiles}},
	} {
		got, err := PolicyFromEnv(func(name string) string {
			return map[string]string{EnvSize: tc.size, EnvFiles: tc.files}[name]
		})
		if tc.problems == nil && (err != nil || got != tc.want) {
			t.Errorf("%+v: %+v, %v", tc, got, err)
		}
		for _, text := range tc.problems {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%+v: %v", tc, err)
			}
		}
	}
}

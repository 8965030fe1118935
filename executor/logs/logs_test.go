package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if tasks := os.Getenv(chatterVariable); tasks != "" {
		chatter(tasks)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string, p Policy) *Logs {
	t.Helper()
	l, err := Open(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// files returns the contents of a stream's files, oldest first.
func files(t testing.TB, dir, name string) [][]byte {
	t.Helper()
	var all [][]byte
	for i := 1000; i >= 0; i-- {
		path := filepath.Join(dir, name)
		if i > 0 {
			path = fmt.Sprintf("%s.%d", path, i)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func TestCut(t *testing.T) {
	cases := []struct {
		name    string
		p       string
		size    int64
		midLine bool
		n       int
		rotate  bool
	}{
		{"fits", "ab\n", 0, false, 3, false},
		{"fits exactly", "ab\n", 7, false, 3, false},
		{"last line that fits", "a\nb\ncccccccc\n", 4, false, 4, true},
		{"line begins in the next file", "cccccccc\n", 4, false, 0, true},
		{"line has begun here and ends here", "cccccccc\nd\n", 4, true, 9, true},
		{"longer than a file", "0123456789abcde\nf\n", 0, false, 16, true},
		{"longer than two files", strings.Repeat("x", 30), 0, false, 20, true},
		{"begun line reaches twice the limit", strings.Repeat("x", 30), 15, true, 5, true},
		{"begun line goes on", "0123456", 5, true, 7, false},
		{"file is larger than allowed", "abc\n", 50, true, 0, true},
		{"file is larger, line complete", "abc\n", 50, false, 0, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n, rotate := cut([]byte(c.p), c.size, c.midLine, 10)
			if n != c.n || rotate != c.rotate {
				t.Errorf("cut = %d, %v; want %d, %v", n, rotate, c.n, c.rotate)
			}
		})
	}
}

// FuzzCut writes arbitrary chunks by cut's rule and checks what it promises.
func FuzzCut(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccccccccccccccccccccccccccccccccccccc\nd"), uint8(3))
	f.Add([]byte("\x00\xff\n"), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		const limit = 10
		rest := stream
		var files [][]byte
		var current []byte
		for len(rest) > 0 {
			p := rest[:min(int(step)%17+1, len(rest))]
			rest = rest[len(p):]
			for len(p) > 0 {
				midLine := len(current) > 0 && current[len(current)-1] != '\n'
				n, rotate := cut(p, int64(len(current)), midLine, limit)
				if n == 0 && !rotate {
					t.Fatal("no progress")
				}
				current = append(current, p[:n]...)
				p = p[n:]
				if rotate {
					if len(current) == 0 {
						t.Fatal("an empty file is rotated")
					}
					files, current = append(files, current), nil
				}
			}
		}
		files = append(files, current)
		if got := bytes.Join(files, nil); !bytes.Equal(got, stream) {
			t.Fatalf("files hold %q, want %q", got, stream)
		}
		for i, b := range files {
			if len(b) > 2*limit {
				t.Errorf("file %d has %d bytes", i, len(b))
			}
			if i < len(files)-1 && b[len(b)-1] != '\n' && len(b) < 2*limit {
				t.Errorf("file %d ends inside a line that would have fitted: %q", i, b)
			}
		}
	})
}

func TestFile_RotatesWithoutLosingOrTearing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "task")
	l := open(t, dir, Policy{MaxSize: minSize, MaxFiles: 1000})
	rng := rand.New(rand.NewPCG(1, 2))
	var want []byte
	for len(want) < 300_000 {
		line := bytes.Repeat([]byte{byte(rng.IntN(256))}, rng.IntN(600))
		line = append(bytes.ReplaceAll(line, []byte("\n"), []byte("n")), '\n')
		want = append(want, line...)
	}
	for rest := want; len(rest) > 0; {
		n := min(1+rng.IntN(2000), len(rest))
		if m, err := l.Stdout.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("Write = %d, %v", m, err)
		}
		rest = rest[n:]
	}
	all := files(t, dir, StdoutName)
	if got := bytes.Join(all, nil); !bytes.Equal(got, want) {
		t.Fatalf("files hold %d bytes, want the %d written", len(got), len(want))
	}
	if len(all) < 50 {
		t.Errorf("%d files, want rotation", len(all))
	}
	for i, b := range all[:len(all)-1] {
		if b[len(b)-1] != '\n' || len(b) > minSize+600 {
			t.Errorf("file %d: %d bytes, ends with %q", i, len(b), b[len(b)-1])
		}
	}
}

func TestFile_KeepsTheNewest(t *testing.T) {
	for _, keep := range []int{0, 2} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "task")
			l := open(t, dir, Policy{MaxSize: minSize, MaxFiles: keep})
			for i := range 2000 {
				fmt.Fprintf(l.Stderr, "line %d of many\n", i)
			}
			all := files(t, dir, StderrName)
			if len(all) != keep+1 {
				t.Errorf("%d files, want %d", len(all), keep+1)
			}
			if last := all[len(all)-1]; !bytes.HasSuffix(last, []byte("line 1999 of many\n")) {
				t.Errorf("the current file ends with %q", last[max(0, len(last)-20):])
			}
		})
	}
}

func TestOpen_ContinuesAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "task")
	l, err := Open(dir, DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(l.Stdout, "one\ntw")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, DefaultPolicy())
	io.WriteString(l.Stdout, "o\n")
	if got := files(t, dir, StdoutName); len(got) != 1 || string(got[0]) != "one\ntwo\n" {
		t.Errorf("files = %q", got)
	}
}

func TestOpen_IsNotRedirected(t *testing.T) {
	cases := []struct {
		name string
		make func(path, victim string) error
	}{
		{"symbolic link", func(path, victim string) error { return os.Symlink(victim, path) }},
		{"dangling link", func(path, victim string) error { return os.Symlink(victim+"-new", path) }},
		{"hard link", func(path, victim string) error { return os.Link(victim, path) }},
		{"named pipe", func(path, _ string) error { return unix.Mkfifo(path, 0o600) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			dir, victim := filepath.Join(base, "task"), filepath.Join(base, "victim")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(victim, []byte("precious"), 0o600), c.make(filepath.Join(dir, StdoutName), victim)); err != nil {
				t.Fatal(err)
			}
			l := open(t, dir, DefaultPolicy())
			io.WriteString(l.Stdout, "output\n")
			if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
				t.Errorf("victim holds %q, %v", b, err)
			}
			if _, err := os.Lstat(victim + "-new"); err == nil {
				t.Error("the link's target was created")
			}
			if got := files(t, dir, StdoutName); len(got) != 1 || string(got[0]) != "output\n" {
				t.Errorf("log = %q", got)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		base := t.TempDir()
		if err := os.Symlink(base, filepath.Join(base, "task")); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(filepath.Join(base, "task"), DefaultPolicy()); err == nil {
			l.Close()
			t.Error("opened through a symbolic link")
		}
	})
}

// TestRotate_IsNotRedirected: a link put in place between two rotations is
// moved away with its name, never followed.
func TestRotate_IsNotRedirected(t *testing.T) {
	base := t.TempDir()
	dir, victim := filepath.Join(base, "task"), filepath.Join(base, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir, Policy{MaxSize: minSize, MaxFiles: 2})
	path := filepath.Join(dir, StdoutName)
	if err := errors.Join(os.Remove(path), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1000)
	line[999] = '\n'
	for range 10 {
		if _, err := l.Stdout.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(victim); string(b) != "precious" {
		t.Errorf("victim holds %q", b)
	}
}

// TestRotate_StaysBoundedWhenItFails: a task that owns the directory puts
// something in the way that cannot be replaced.
func TestRotate_StaysBoundedWhenItFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "task")
	l := open(t, dir, Policy{MaxSize: minSize, MaxFiles: 2})
	if err := os.MkdirAll(filepath.Join(dir, "stdout.1", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "stdout.2", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 499), '\n')
	var failed int
	for range 200 {
		if _, err := l.Stdout.Write(line); err != nil {
			failed++
		}
	}
	info, err := os.Stat(filepath.Join(dir, StdoutName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 3*minSize || failed == 0 || l.Stdout.Dropped() == 0 {
		t.Errorf("size %d, %d errors, %d dropped; want a bounded file and errors", info.Size(), failed, l.Stdout.Dropped())
	}
	if got := l.Stdout.Tail(1, 1000); got != string(line[:499]) {
		t.Errorf("Tail = %.20q", got)
	}
}

func TestFile_ADiskThatRefusesLosesOnlyWhatItRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "task")
	l := open(t, dir, DefaultPolicy())
	good := l.Stdout.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("needs /dev/full:", err)
	}
	defer full.Close()
	l.Stdout.file = full
	if _, err := l.Stdout.Write([]byte("lost\n")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error = %v, want ENOSPC", err)
	}
	l.Stdout.file = good
	if _, err := l.Stdout.Write([]byte("kept\n")); err != nil {
		t.Error(err)
	}
	if got := files(t, dir, StdoutName); string(got[0]) != "kept\n" || l.Stdout.Dropped() != 5 {
		t.Errorf("log = %q, dropped = %d", got[0], l.Stdout.Dropped())
	}
}

func TestTail(t *testing.T) {
	cases := []struct {
		name            string
		text            string
		lines, maxBytes int
		want            string
	}{
		{"empty", "", 3, 100, ""},
		{"fewer lines", "a\nb\n", 3, 100, "a\nb"},
		{"last lines", "a\nb\nc\nd\n", 2, 100, "c\nd"},
		{"no newline at the end", "a\nb\nc", 2, 100, "b\nc"},
		{"bytes cut at a line", "aaaa\nbbbb\ncccc\n", 9, 8, "cccc"},
		{"bytes end at a line", "aaaa\nbbbb\ncccc\n", 9, 9, "bbbb\ncccc"},
		{"one long line", strings.Repeat("x", 50), 3, 10, "xxxxxxxxxx"},
		{"no lines wanted", "a\n", 0, 10, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := open(t, filepath.Join(t.TempDir(), "task"), DefaultPolicy())
			io.WriteString(l.Stderr, c.text)
			if got := l.Stderr.Tail(c.lines, c.maxBytes); got != c.want {
				t.Errorf("Tail = %q, want %q", got, c.want)
			}
		})
	}
	t.Run("across a rotation", func(t *testing.T) {
		l := open(t, filepath.Join(t.TempDir(), "task"), Policy{MaxSize: minSize, MaxFiles: 1})
		long := strings.Repeat("x", minSize-4)
		io.WriteString(l.Stderr, long+"\none\ntwo\n")
		if got := l.Stderr.Tail(2, 100); got != "one\ntwo" {
			t.Errorf("Tail = %q", got)
		}
		io.WriteString(l.Stderr, "three\n"+long+"\nfour\n")
		if got := l.Stderr.Tail(2, 2*minSize); got != long+"\nfour" {
			t.Errorf("Tail = %d bytes", len(got))
		}
	})
}

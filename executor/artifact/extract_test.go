package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// entry is a file of an archive that a test makes.
type entry struct {
	name, content, link string
	kind                byte // of tar
	mode                int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content))}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		content := e.content
		switch e.kind {
		case tar.TypeSymlink:
			h.SetMode(fs.ModeSymlink | 0o777)
			content = e.link
		case tar.TypeFifo:
			h.SetMode(fs.ModeNamedPipe | 0o644)
		default:
			h.SetMode(fs.FileMode(max(e.mode, 0o644)))
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func xzOf(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bzip2Hello is a tar with hello.txt, which says hello; there is no encoder in
// the standard library.
//
//go:embed testdata/hello.tar.bz2
var bzip2Hello []byte

// unpacked extracts an archive into a new directory, which has a neighbour that
// nobody may touch.
func unpacked(t testing.TB, name string, archive []byte, limits Limits) (dir string, err error) {
	t.Helper()
	base := t.TempDir()
	dir = filepath.Join(base, "task")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "victim"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(source, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = extract(context.Background(), root, name, file, limits)
	if b, rerr := os.ReadFile(filepath.Join(base, "victim")); rerr != nil || string(b) != "precious" {
		t.Fatalf("the neighbour now holds %q, %v", b, rerr)
	}
	if names, _ := filepath.Glob(filepath.Join(base, "*")); len(names) != 2 {
		t.Fatalf("there are files beside the directory: %v", names)
	}
	return dir, err
}

// listing is every file below dir with its content, links as "a -> b".
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			list = append(list, name+" -> "+target)
			return err
		}
		b, err := os.ReadFile(path)
		list = append(list, name+"="+string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

var small = Limits{Size: 1 << 20, Contents: 1 << 20, Entries: 100}

func TestExtract_EachKindByItsName(t *testing.T) {
	hello := entry{name: "hello.txt", content: "hello"}
	plain := tarOf(t, hello)
	for name, archive := range map[string][]byte{
		"a.tar": plain, "a.tgz": gzipOf(t, plain), "a.tar.gz": gzipOf(t, plain), "a.txz": xzOf(t, plain), "a.tar.xz": xzOf(t, plain),
		"a.tbz2": bzip2Hello, "a.tar.bz2": bzip2Hello, "a.zip": zipOf(t, hello), "hello.txt.gz": gzipOf(t, []byte("hello")),
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := unpacked(t, name, archive, small)
			if err != nil {
				t.Fatal(err)
			}
			if got := listing(t, dir); !slices.Equal(got, []string{"hello.txt=hello"}) {
				t.Errorf("%q", got)
			}
		})
	}
	if dir, err := unpacked(t, "a.txt", plain, small); err != nil || len(listing(t, dir)) > 0 {
		t.Errorf("a file that is no archive: %v", err)
	}
}

func TestExtract_KeepsModesAndLinksThatStayInside(t *testing.T) {
	dir, err := unpacked(t, "a.tar", tarOf(t,
		entry{name: "./", kind: tar.TypeDir, mode: 0o700},
		entry{name: "bin/", kind: tar.TypeDir, mode: 0o555},
		entry{name: "bin/run", content: "#!/bin/sh", mode: 0o4755},
		entry{name: "lib/deep/x", content: "x"},
		entry{name: "lib/deep/up", kind: tar.TypeSymlink, link: "../../bin/run"},
		entry{name: "hard", kind: tar.TypeLink, link: "lib/deep/x"},
		entry{name: "hard", kind: tar.TypeLink, link: "hard"},
		entry{name: "twice", content: "first"},
		entry{name: "twice", content: "second"},
	), small)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bin/run=#!/bin/sh", "hard=x", "lib/deep/up -> ../../bin/run", "lib/deep/x=x", "twice=second"}
	if got := listing(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, "bin/run"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v: want 0755 without set-user-ID", info.Mode(), err)
	}
}

func TestExtract_RefusesWhatLeadsOutOrIsTooLarge(t *testing.T) {
	big := strings.Repeat("\x00", 2<<20)
	many := make([]entry, 101)
	for i := range many {
		many[i] = entry{name: strings.Repeat("d/", i) + "f"}
	}
	for _, tc := range []struct {
		name    string
		entries []entry
		text    string
		tarOnly bool
	}{
		{"parent", []entry{{name: "../victim", content: "x"}}, "leads out", false},
		{"parent by a detour", []entry{{name: "a/../../victim", content: "x"}}, "leads out", false},
		{"absolute", []entry{{name: "/etc/pacer-test", content: "x"}}, "leads out", false},
		{"absolute link", []entry{{name: "l", kind: tar.TypeSymlink, link: "/etc"}, {name: "l/x", content: "x"}}, "leads out", false},
		{"link to the parent", []entry{{name: "l", kind: tar.TypeSymlink, link: ".."}, {name: "l/victim", content: "x"}}, "leads out", false},
		{"link by a detour", []entry{{name: "a/l", kind: tar.TypeSymlink, link: "../b/../../victim"}}, "leads out", false},
		{"links that add up", []entry{{name: "a/b/c/f"}, {name: "l", kind: tar.TypeSymlink, link: "a/b/c"}, {name: "l/m", kind: tar.TypeSymlink, link: "../../../.."}}, "leads out", false},
		{"link through a link", []entry{{name: "a/b/c/f"}, {name: "l", kind: tar.TypeSymlink, link: "a/b/c"}, {name: "m", kind: tar.TypeSymlink, link: "l/../../../.."}, {name: "m/victim", content: "x"}}, "", false},
		{"hard link out", []entry{{name: "h", kind: tar.TypeLink, link: "../victim"}, {name: "h", content: "x"}}, "leads out", true},
		{"hard link to a link", []entry{{name: "d/f"}, {name: "l", kind: tar.TypeSymlink, link: "d"}, {name: "h", kind: tar.TypeLink, link: "l"}}, "no file", true},
		{"pipe", []entry{{name: "p", kind: tar.TypeFifo}}, "is a device", false},
		{"device", []entry{{name: "p", kind: tar.TypeBlock}}, "is a device", true},
		{"directory replaced by a file", []entry{{name: "d/f"}, {name: "d"}}, "is a directory already", false},
		{"bomb", []entry{{name: "big", content: big}}, "more than the 1048576 bytes", false},
		{"bomb in parts", []entry{{name: "a", content: big[:1<<19]}, {name: "b", content: big[:1<<19]}, {name: "c", content: "x"}}, "more than the 1048576 bytes", false},
		{"many entries", many, "more than the 100 entries", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			archives := map[string][]byte{"a.tgz": gzipOf(t, tarOf(t, tc.entries...))}
			if !tc.tarOnly {
				archives["a.zip"] = zipOf(t, tc.entries...)
			}
			for name, archive := range archives {
				_, err := unpacked(t, name, archive, small)
				if err == nil || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%s: %v, want %q in it", name, err, tc.text)
				}
			}
		})
	}
	if _, err := unpacked(t, "big.gz", gzipOf(t, []byte(big)), small); err == nil || !strings.Contains(err.Error(), "more than the 1048576 bytes") {
		t.Errorf("a single file: %v", err)
	}
	if _, err := unpacked(t, "a.tar.xz", []byte("no xz"), small); err == nil {
		t.Error("nonsense is taken for an archive")
	}
}

// FuzzExtract unpacks anything: it never writes beside the directory, nor more
// than is allowed, and never panics.
func FuzzExtract(f *testing.F) {
	hello := entry{name: "d/hello.txt", content: "hello"}
	link := entry{name: "l", kind: tar.TypeSymlink, link: "d/../d"}
	through := entry{name: "l/x", content: "x"}
	f.Add("a.tar", tarOf(f, hello, link, through))
	f.Add("a.tgz", gzipOf(f, tarOf(f, hello)))
	f.Add("a.txz", xzOf(f, tarOf(f, hello)))
	f.Add("a.tbz2", bzip2Hello)
	f.Add("a.zip", zipOf(f, hello, link, through))
	f.Add("a.gz", gzipOf(f, []byte("hello")))
	f.Fuzz(func(t *testing.T, name string, archive []byte) {
		if len(archive) > 1<<16 || strings.ContainsAny(name, "/\x00") {
			return
		}
		limits := Limits{Size: 1 << 16, Contents: 1 << 16, Entries: 20}
		dir, _ := unpacked(t, name, archive, limits)
		var size int64
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().IsRegular() {
				size += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		// Hard links show the same bytes under several names.
		if size > int64(limits.Entries)*(limits.Contents+1) {
			t.Errorf("%d bytes", size)
		}
	})
}

package artifact

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/ulikunitz/xz"
)

// kind is what an archive's name says about it.
type kind struct {
	suffix   string
	decoder  func(io.Reader) (io.Reader, error) // nil is none
	contents func(*extraction, io.Reader) error // nil is a single file
}

func plain(r io.Reader) (io.Reader, error)    { return r, nil }
func gunzip(r io.Reader) (io.Reader, error)   { return gzip.NewReader(r) }
func bunzip2(r io.Reader) (io.Reader, error)  { return bzip2.NewReader(r), nil }
func decodeXZ(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }

// kinds has longer suffixes before those that they end in.
var kinds = []kind{
	{".tar", plain, (*extraction).tar},
	{".tgz", gunzip, (*extraction).tar},
	{".tar.gz", gunzip, (*extraction).tar},
	{".tbz2", bunzip2, (*extraction).tar},
	{".tar.bz2", bunzip2, (*extraction).tar},
	{".txz", decodeXZ, (*extraction).tar},
	{".tar.xz", decodeXZ, (*extraction).tar},
	{".zip", nil, nil},
	{".gz", gunzip, nil},
}

func kindOf(name string) (kind, bool) {
	for _, k := range kinds {
		if strings.HasSuffix(name, k.suffix) {
			return k, true
		}
	}
	return kind{}, false
}

// extraction is one archive on its way into a directory.
type extraction struct {
	ctx     context.Context
	root    *os.Root
	left    int64 // bytes
	entries int
	limits  Limits
}

// extract unpacks a file called name into the root.
func extract(ctx context.Context, root *os.Root, name string, file *os.File, limits Limits) error {
	k, ok := kindOf(name)
	if !ok {
		return nil
	}
	e := &extraction{ctx: ctx, root: root, left: limits.Contents, entries: limits.Entries, limits: limits}
	if k.suffix == ".zip" {
		return e.zip(file)
	}
	decoded, err := k.decoder(&interruptible{ctx, file})
	if err != nil {
		return err
	}
	if k.contents == nil {
		// As gunzip does it: beside the archive.
		return e.file(strings.TrimSuffix(name, k.suffix), 0o644, decoded)
	}
	return k.contents(e, decoded)
}

func (e *extraction) tar(r io.Reader) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg, tar.TypeGNUSparse:
			err = e.file(header.Name, header.FileInfo().Mode(), archive)
		case tar.TypeDir:
			err = e.directory(header.Name)
		case tar.TypeSymlink:
			err = e.symlink(header.Name, header.Linkname)
		case tar.TypeLink:
			err = e.link(header.Name, header.Linkname)
		default:
			err = fmt.Errorf("%q is a device, a pipe or something unknown (type %q)", header.Name, header.Typeflag)
		}
		if err != nil {
			return err
		}
	}
}

func (e *extraction) zip(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil {
		return err
	}
	for _, entry := range archive.File {
		if err := e.zipEntry(entry); err != nil {
			return err
		}
	}
	return nil
}

func (e *extraction) zipEntry(entry *zip.File) (err error) {
	mode := entry.Mode()
	if mode.IsDir() {
		return e.directory(entry.Name)
	}
	if !mode.IsRegular() && mode.Type() != fs.ModeSymlink {
		return fmt.Errorf("%q is a device, a pipe or something unknown (%v)", entry.Name, mode)
	}
	content, err := entry.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if mode.Type() == fs.ModeSymlink {
		target, err := io.ReadAll(io.LimitReader(content, maxLink+1))
		if err != nil || len(target) > maxLink {
			return errors.Join(fmt.Errorf("%q: link of more than %d bytes", entry.Name, maxLink), err)
		}
		return e.symlink(entry.Name, string(target))
	}
	return e.file(entry.Name, mode, content)
}

// maxLink is the longest path that a link may hold.
const maxLink = 4095

// place counts an entry, makes the directories above it and clears its place.
func (e *extraction) place(name string) (string, error) {
	if err := context.Cause(e.ctx); err != nil {
		return "", err
	}
	if e.entries--; e.entries < 0 {
		return "", fmt.Errorf("has more than the %d entries that are allowed", e.limits.Entries)
	}
	clean, err := inside(name)
	if err != nil {
		return "", err
	}
	if dir := path.Dir(clean); dir != "." {
		if err := e.root.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	return clean, nil
}

// inside is the name of an entry below the directory.
func inside(name string) (string, error) {
	if !isLocal(name) && path.Clean(name) != "." || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q leads out of the directory", name)
	}
	return path.Clean(name), nil
}

// clear removes what is in the place of a file or a link, so that nothing is
// written through an earlier entry.
func (e *extraction) clear(name string) error {
	info, err := e.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%q is a directory already", name)
	}
	return e.root.Remove(name)
}

func (e *extraction) directory(name string) error {
	clean, err := e.place(name)
	if err != nil || clean == "." {
		return err
	}
	// Its own mode is left out: it may not let us write into it.
	return e.root.MkdirAll(clean, 0o755)
}

func (e *extraction) file(name string, mode fs.FileMode, content io.Reader) error {
	clean, err := e.place(name)
	if err != nil {
		return err
	}
	if err := e.clear(clean); err != nil {
		return err
	}
	file, err := e.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm()|0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(&interruptible{e.ctx, content}, e.left+1))
	if e.left -= n; e.left < 0 {
		err = fmt.Errorf("contents of more than the %d bytes that are allowed", e.limits.Contents)
	}
	return errors.Join(err, file.Close())
}

func (e *extraction) symlink(name, target string) error {
	clean, err := e.place(name)
	if err != nil {
		return err
	}
	if path.IsAbs(target) || target == "" || len(target) > maxLink || strings.ContainsRune(target, 0) || !staysInside(path.Dir(clean), target) {
		return fmt.Errorf("%q is a link that leads out of the directory: %q", name, target)
	}
	if err := e.clear(clean); err != nil {
		return err
	}
	return e.root.Symlink(target, clean)
}

// staysInside reports whether a relative target, seen from a directory, is below
// the root, with each step on the way to it.
func staysInside(dir, target string) bool {
	depth := 0
	if dir != "." {
		depth = strings.Count(dir, "/") + 1
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
		}
	}
	return true
}

func (e *extraction) link(name, target string) error {
	clean, err := e.place(name)
	if err != nil {
		return err
	}
	from, err := inside(target)
	if err != nil {
		return err
	}
	info, err := e.root.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is a hard link to %q, which is no file", name, target)
	}
	if from == clean {
		return nil
	}
	if err := e.clear(clean); err != nil {
		return err
	}
	return e.root.Link(from, clean)
}

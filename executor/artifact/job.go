package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"syscall"
)

// item is one URI with where its file is cached, if it is.
type item struct {
	URI
	Cached string `json:",omitempty"`
}

// job is what a fetching process is told.
type job struct {
	Items  []item
	Limits Limits
}

// jobVariable holds the job; a process that has it, and fetchName as its only
// argument, is one that fetches. Unlike an argument it is not shown to other
// users.
const (
	jobVariable = "PACER_FETCH_JOB"
	fetchName   = "pacer-fetch"
)

// RunFetcher turns this process into one that fetches if it was started as one,
// and then never returns. main and TestMain call it before anything else.
func RunFetcher() {
	if len(os.Args) != 2 || os.Args[1] != fetchName {
		return
	}
	text := os.Getenv(jobVariable)
	if text == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var j job
	err := errors.Join(limitMemory(), json.Unmarshal([]byte(text), &j))
	if err == nil {
		err = j.run(ctx, ".")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// maxMemory is what an archive can make of the process that unpacks it: a
// dictionary of up to 4 GiB is what .xz files may ask for.
const maxMemory = 1 << 30

// limitMemory leaves this process so much address space beyond what it has.
func limitMemory() error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return fmt.Errorf("read /proc/self/statm: %w", err)
	}
	limit := pages*uint64(os.Getpagesize()) + maxMemory
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	return nil
}

// run fetches everything into dir, one after the other.
func (j job) run(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, i := range j.Items {
		if err := i.fetch(ctx, root, j.Limits); err != nil {
			return fmt.Errorf("%s: %w", i.URI, err)
		}
	}
	return nil
}

// fetch brings one file, and unpacks it.
func (i item) fetch(ctx context.Context, root *os.Root, limits Limits) (err error) {
	name := i.name()
	_, archive := kindOf(name)
	archive = archive && i.Extract && !i.Executable
	if i.Cached != "" && archive {
		file, err := openFile(i.Cached)
		if err != nil {
			return err
		}
		defer file.Close()
		return i.unpack(ctx, root, file, limits)
	}
	var source io.ReadCloser
	if i.Cached != "" {
		source, err = openFile(i.Cached)
	} else {
		source, err = limits.download(ctx, i.URI)
	}
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := create(root, name, i.Executable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := copyChecked(ctx, file, source, limits.Size, i.SHA256); err != nil {
		return err
	}
	if !archive {
		return nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return i.unpack(ctx, root, file, limits)
}

// unpack puts an archive's contents into the directory, and what is a single
// compressed file beside it.
func (i item) unpack(ctx context.Context, root *os.Root, file *os.File, limits Limits) error {
	if err := extract(ctx, root, i.name(), file, limits); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	return nil
}

// create makes the file to save to, in the place of whatever is there.
func create(root *os.Root, name string, executable bool) (*os.File, error) {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := (&extraction{root: root}).clear(name); err != nil {
		return nil, err
	}
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
}

package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"pacer/executor/process"
)

// Fetcher fetches for all tasks of an executor.
type Fetcher struct {
	starter *process.Supervisor
	cache   *Cache
	limits  Limits
	proxies []string
}

// NewFetcher makes a fetcher. The proxy settings of this process's environment
// are the fetching processes', and nothing else of it.
func NewFetcher(starter *process.Supervisor, cache *Cache, limits Limits, getenv func(string) string) *Fetcher {
	f := &Fetcher{starter: starter, cache: cache, limits: limits}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if value := getenv(name); value != "" {
			f.proxies = append(f.proxies, name+"="+value)
		}
	}
	return f
}

// Job is what one task wants.
type Job struct {
	TaskID string
	// Dir is where files go: a directory that belongs to User.
	Dir, User string
	URIs      []URI
	// CPU is the weight of the process that fetches, as the task's.
	CPU float64
}

const (
	// maxJob in bytes is less than one variable of an environment may have.
	maxJob = 120 << 10
	// maxWords is how much of what a fetching process says about its failure is
	// kept.
	maxWords = 2 << 10
	// killTime is how long the end of a fetching process may take.
	killTime = 10 * time.Second
)

// Fetch returns when every file is in its place and no process is left of the
// call, or with an error that names the URI and what is wrong, or when ctx ends.
func (f *Fetcher) Fetch(ctx context.Context, j Job) (err error) {
	var problems []error
	for _, u := range j.URIs {
		problems = append(problems, u.Validate())
	}
	if err := errors.Join(problems...); err != nil || len(j.URIs) == 0 {
		return err
	}
	items := make([]item, len(j.URIs))
	for i, u := range j.URIs {
		items[i].URI = u
	}
	missing, release, err := f.claim(ctx, items)
	if err != nil {
		return fmt.Errorf("wait for another task that fetches the same: %w", err)
	}
	defer release()
	if err := f.run(ctx, j, items); err != nil {
		return err
	}
	return f.keep(ctx, j.Dir, missing)
}

// claim fills in what is cached and returns what has to be cached, each sum
// once. Sums are claimed in order, so that tasks do not wait in a circle.
func (f *Fetcher) claim(ctx context.Context, items []item) (missing []item, release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range releases {
			r()
		}
	}
	order := make([]int, 0, len(items))
	for i, it := range items {
		if it.Cache && it.SHA256 != "" {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(lower(items[a].SHA256), lower(items[b].SHA256)) })
	paths := map[string]string{}
	for _, i := range order {
		sum := lower(items[i].SHA256)
		path, known := paths[sum]
		if !known {
			var r func()
			if path, r, err = f.cache.claim(ctx, sum); err != nil {
				release()
				return nil, nil, err
			}
			releases = append(releases, r)
			paths[sum] = path
			if path == "" {
				missing = append(missing, items[i])
			}
		}
		items[i].Cached = path
	}
	return missing, release, nil
}

// run has a process fetch everything.
func (f *Fetcher) run(ctx context.Context, j Job, items []item) (err error) {
	text, err := json.Marshal(job{Items: items, Limits: f.limits})
	if err != nil {
		return fmt.Errorf("encode the job: %w", err)
	}
	if len(text) > maxJob {
		return fmt.Errorf("uris: %d of them take %d bytes, at most %d are possible: put them into one archive", len(items), len(text), maxJob)
	}
	// Ids of tasks may be as long as ids of processes.
	digest := sha256.Sum256([]byte(j.TaskID))
	words := new(words)
	proc, err := f.starter.Start(ctx, process.Spec{
		TaskID: "fetch-" + hex.EncodeToString(digest[:8]),
		Argv:   []string{"/proc/self/exe", fetchName},
		Env:    append(slices.Clone(f.proxies), jobVariable+"="+string(text)),
		Dir:    j.Dir,
		User:   j.User,
		Stderr: words,
		Limits: process.Limits{CPU: j.CPU},
	})
	if err != nil {
		return fmt.Errorf("start fetching: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
		defer cancel()
		err = errors.Join(err, proc.Kill(end))
		if err != nil && ctx.Err() == nil && words.String() != "" {
			err = errors.New(words.String())
		}
	}()
	select {
	case <-proc.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if exit := proc.Exit(); exit.Code != 0 {
		return fmt.Errorf("fetching ended with code %d, signal %d", exit.Code, exit.Signal)
	}
	return nil
}

// keep caches what has been fetched for the first time. A file that cannot be
// kept is a loss for others only; an archive is then left where it is.
func (f *Fetcher) keep(ctx context.Context, dir string, fetched []item) error {
	if len(fetched) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the task's directory: %w", err)
	}
	defer root.Close()
	for _, i := range fetched {
		if err := f.cache.add(ctx, root, i.name(), lower(i.SHA256), f.limits.Size); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if _, archive := kindOf(i.name()); archive && i.Extract && !i.Executable {
			// As Mesos has it: of a cached archive there are the contents only.
			if err := root.Remove(i.name()); err != nil {
				return fmt.Errorf("remove the archive %s: %w", i.name(), err)
			}
		}
	}
	return nil
}

// words keeps the beginning of what is written.
type words struct {
	mu   sync.Mutex
	text []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), maxWords-len(w.text))]...)
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}

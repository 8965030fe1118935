package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// stallTimeout is how long a download may go without a byte.
const stallTimeout = time.Minute

// fetcher brings URIs into sandboxes, each container's with a process of its own.
type fetcher struct {
	agent  *Agent
	client *http.Client

	mu      sync.Mutex
	active  map[string]func()      // by container id: kills the process
	killed  map[string]bool        // destroyed before or while fetching
	entries map[string]*cacheEntry // by user and URI
	serial  int
}

// cacheEntry is a file that is fetched once.
type cacheEntry struct {
	path string
	done chan struct{} // closed when the file is there or will not be
	ok   bool
}

// fetchItem is one URI of a command.
type fetchItem struct {
	URI        string `json:"uri"`
	Executable bool   `json:"executable"`
	Extract    bool   `json:"extract"`
	Cache      bool   `json:"cache"`
	Output     string `json:"output"`
	// CacheFile is where the content is, or goes on its way to the sandbox.
	CacheFile string `json:"cache_file"`
	// Cached says that CacheFile is there already.
	Cached bool `json:"cached"`
}

func newFetchItem(uri mesos.CommandInfo_URI) fetchItem {
	return fetchItem{
		URI:        strings.TrimSpace(uri.GetValue()),
		Executable: uri.GetExecutable(),
		Extract:    uri.GetExtract(),
		Cache:      uri.GetCache(),
		Output:     strings.TrimSpace(uri.GetOutputFile()),
	}
}

func newFetcher(a *Agent) *fetcher {
	return &fetcher{
		agent:   a,
		client:  &http.Client{Timeout: stallTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
		active:  make(map[string]func()),
		killed:  make(map[string]bool),
		entries: make(map[string]*cacheEntry),
	}
}

// fetchFailure is why a container was not started, with the raw wait status that the
// master is told.
func fetchFailure(spec containerSpec, status syscall.WaitStatus) error {
	how := fmt.Sprintf("exited with status %d", status.ExitStatus())
	if status.Signaled() {
		how = "terminated with signal " + signalName(status.Signal())
	}
	return wording(fmt.Sprintf("Failed to fetch all URIs for container '%s': %s", spec.ID, how))
}

func signalName(s syscall.Signal) string {
	name := s.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// cancel kills the fetch of a container that is destroyed.
func (f *fetcher) cancel(containerID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed[containerID] = true
	if kill := f.active[containerID]; kill != nil {
		kill()
	}
}

// fetch gets all URIs of a container; the error's text is what the scheduler will
// read, the status what FAILURE will carry.
func (f *fetcher) fetch(ctx context.Context, spec containerSpec) (status int32, err error) {
	if len(spec.URIs) == 0 {
		return 0, nil
	}
	for i := range spec.URIs {
		if err := spec.URIs[i].validate(); err != nil {
			return int32(syscall.SIGKILL), wording("Could not fetch: " + err.Error())
		}
	}
	owned, err := f.prepareCache(ctx, spec)
	if err != nil {
		return -1, err
	}
	wait, err := f.run(ctx, spec)
	for _, entry := range owned {
		f.settle(entry, err == nil && wait == 0)
	}
	if err != nil {
		return -1, err
	}
	if wait != 0 {
		return int32(wait), fetchFailure(spec, wait)
	}
	return 0, nil
}

// prepareCache decides for each cached URI whether its file is there, will be
// fetched by this container, or is awaited from another. owned are the entries
// that this container fills.
func (f *fetcher) prepareCache(ctx context.Context, spec containerSpec) (owned []*cacheEntry, err error) {
	for i := range spec.URIs {
		item := &spec.URIs[i]
		if !item.Cache {
			continue
		}
		if isHTTP(item.URI) && !f.sizeKnown(ctx, item.URI) {
			continue // as if not to be cached
		}
		directory := filepath.Join(f.agent.cfg.FetcherCacheDir, spec.UserName)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return owned, err
		}
		if spec.User != nil {
			if err := os.Chown(directory, int(spec.User.uid), int(spec.User.gid)); err != nil {
				return owned, err
			}
		}
		key := spec.UserName + "@" + item.URI
		f.mu.Lock()
		entry := f.entries[key]
		if entry == nil {
			f.serial++
			entry = &cacheEntry{
				path: filepath.Join(directory, fmt.Sprintf("c%d-%s", f.serial, lastBytes(item.name(), 100))),
				done: make(chan struct{}),
			}
			f.entries[key] = entry
			owned = append(owned, entry)
			f.mu.Unlock()
			item.CacheFile = entry.path
			continue
		}
		f.mu.Unlock()
		mine := false
		for _, o := range owned {
			mine = mine || o == entry // the same URI twice in one command
		}
		if mine {
			item.Cache = false
			continue
		}
		select {
		case <-entry.done:
		case <-ctx.Done():
			return owned, ctx.Err()
		}
		if entry.ok {
			item.CacheFile, item.Cached = entry.path, true
		} else {
			item.Cache = false
		}
	}
	return owned, nil
}

func lastBytes(s string, n int) string { return s[max(0, len(s)-n):] }

// settle ends the filling of an entry. A failed one is forgotten.
func (f *fetcher) settle(entry *cacheEntry, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	entry.ok = ok
	close(entry.done)
	if !ok {
		for key, e := range f.entries {
			if e == entry {
				delete(f.entries, key)
			}
		}
	}
}

// sizeKnown asks for a resource's size, as Mesos does before it makes room in its
// cache.
func (f *fetcher) sizeKnown(ctx context.Context, uri string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, uri, nil)
	if err != nil {
		return false
	}
	request.Header.Set("Accept", "*/*")
	response, err := f.client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK && response.ContentLength > 0
}

// run lets a helper process do the work, as the task's user. It returns the
// helper's wait status.
func (f *fetcher) run(ctx context.Context, spec containerSpec) (syscall.WaitStatus, error) {
	cmd, closeFiles, err := helperCommand("fetch", spec, helperInput{Fetch: &fetchInput{
		Directory: spec.Directory, User: spec.UserName, CacheDirectory: filepath.Join(f.agent.cfg.FetcherCacheDir, spec.UserName),
		Items: spec.URIs,
	}})
	if err != nil {
		return 0, err
	}
	defer closeFiles()
	if spec.User != nil {
		cmd.SysProcAttr.Credential = spec.User.credential().sys()
	}
	f.mu.Lock()
	if f.killed[spec.ID] {
		f.mu.Unlock()
		return syscall.WaitStatus(syscall.SIGKILL), nil
	}
	if err := cmd.Start(); err != nil {
		f.mu.Unlock()
		return 0, err
	}
	// The whole group: an unpacking program may be under way. Setsid made the
	// helper its leader.
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	f.active[spec.ID] = kill
	f.mu.Unlock()
	// A killed agent's fetcher goes on in reality, but nobody would start the
	// executor afterwards.
	stop := context.AfterFunc(ctx, kill)
	defer stop()
	err = cmd.Wait()
	f.mu.Lock()
	delete(f.active, spec.ID)
	f.mu.Unlock()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		return status, nil
	}
	return 0, errors.Join(errors.New("fetcher's exit status is not known"), err)
}

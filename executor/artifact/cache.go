package artifact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Cache keeps files by their SHA-256, for all users of this host to read who know
// it. It is empty when it is opened, and safe for concurrent use.
type Cache struct {
	dir   string
	limit int64 // bytes

	mu      sync.Mutex
	files   map[string]*cached
	size    int64
	clock   int64 // counts uses
	pending map[string]chan struct{}
}

type cached struct {
	size  int64
	used  int64 // the last of the clock
	users int   // while it is read it stays
}

// OpenCache makes an empty cache in a directory of its own. When it holds more
// than limit bytes, what has not been used for longest is removed.
func OpenCache(dir string, limit int64) (*Cache, error) {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o711)); err != nil {
		return nil, fmt.Errorf("make the cache of artifacts: %w", err)
	}
	// Mkdir is subject to the umask.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the cache of artifacts: %w", err)
	}
	return &Cache{dir: dir, limit: limit, files: map[string]*cached{}, pending: map[string]chan struct{}{}}, nil
}

// claim returns the path of a cached file, or "" to the one caller who is to
// fetch it; others wait. release has to be called in both cases.
func (c *Cache) claim(ctx context.Context, sum string) (path string, release func(), err error) {
	for {
		c.mu.Lock()
		if f := c.files[sum]; f != nil {
			f.users++
			c.clock++
			f.used = c.clock
			c.mu.Unlock()
			return c.path(sum), func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				f.users--
				c.evictLocked()
			}, nil
		}
		wait := c.pending[sum]
		if wait == nil {
			done := make(chan struct{})
			c.pending[sum] = done
			c.mu.Unlock()
			return "", func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.pending, sum)
				close(done)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}

func (c *Cache) path(sum string) string { return filepath.Join(c.dir, sum) }

// add copies a file that a task's user owns, and who may change it meanwhile, if
// it is what the sum says. It belongs to the caller who has claimed the sum.
func (c *Cache) add(ctx context.Context, root *os.Root, name, sum string, limit int64) (err error) {
	from, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s is no regular file any more", name))
	}
	temporary := c.path(sum) + ".new"
	to, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	n, err := copyChecked(ctx, to, from, min(limit, c.limit), sum)
	err = errors.Join(err, to.Chmod(0o444), to.Close())
	if err == nil {
		err = os.Rename(temporary, c.path(sum))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.files[sum] = &cached{size: n, used: c.clock}
	c.size += n
	c.evictLocked()
	return nil
}

// evictLocked removes files until the rest is within the limit.
func (c *Cache) evictLocked() {
	if c.size <= c.limit {
		return
	}
	var idle []string
	for sum, f := range c.files {
		if f.users == 0 {
			idle = append(idle, sum)
		}
	}
	slices.SortFunc(idle, func(a, b string) int { return cmp.Compare(c.files[a].used, c.files[b].used) })
	for _, sum := range idle {
		if c.size <= c.limit {
			return
		}
		// What cannot be removed is forgotten, and replaced when it is fetched
		// again.
		_ = os.Remove(c.path(sum))
		c.size -= c.files[sum].size
		delete(c.files, sum)
	}
}

func lower(sum string) string { return strings.ToLower(sum) }

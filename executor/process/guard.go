package process

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// guardCaveat is shown in Status.
const guardCaveat = "cgroup v2 without memory_localevents below a Mesos container: memory limits are watched by the executor, because Mesos would destroy the whole container for one task's oom; a task that allocates faster than it is watched can still cause that"

// A memoryGuard enforces a memory limit without an oom event.
//
// On cgroup v2 the oom counter of a task's cgroup also counts in the cgroups
// above it, unless cgroup2 is mounted with memory_localevents. Mesos' v2 agent
// destroys a container, with all its tasks, as soon as that counter moves. So
// the task gets memory.high at its limit, above which the kernel slows it down
// and reclaims, and memory.max some way above. When what cannot be reclaimed
// stays above the limit, the guard kills the task by cgroup.kill, which counts
// nowhere.
type memoryGuard struct {
	dir    string
	limit  uint64
	kill   func()
	events *os.File // inotify on memory.events
	quit   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	killed bool
	peak   uint64
}

const (
	// guardPoll is how often a task above its limit is looked at.
	guardPoll = 10 * time.Millisecond
	// guardLooks is how many looks in a row must find it there: reclaim takes
	// a moment.
	guardLooks = 3
)

// guardMax is memory.max of a guarded task: an eighth of slack, at least 16 MiB
// so that small tasks do not run through it between two looks.
func guardMax(limit uint64) int64 { return int64(limit + max(limit/8, 16<<20)) }

// startMemoryGuard watches the cgroup dir. Without inotify there is no guard,
// and the kernel's memory.max remains.
func startMemoryGuard(dir string, limit uint64, kill func()) *memoryGuard {
	g := &memoryGuard{dir: dir, limit: limit, kill: kill, quit: make(chan struct{}), done: make(chan struct{})}
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, "memory.events"), unix.IN_MODIFY); err == nil {
			g.events = os.NewFile(uintptr(fd), "inotify")
		} else {
			unix.Close(fd)
		}
	}
	if g.events != nil {
		go g.watchLoop()
	}
	return g
}

func (g *memoryGuard) stop() {
	close(g.quit)
	if g.events == nil {
		return
	}
	g.events.SetReadDeadline(time.Unix(1, 0)) // Ends a Read that waits.
	<-g.done
	g.events.Close()
}

// result tells whether the guard killed, and the largest use it saw.
func (g *memoryGuard) result() (killed bool, peak uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.killed, g.peak
}

// watchLoop sleeps until memory.events changes, then looks until use is below
// the limit again.
func (g *memoryGuard) watchLoop() {
	defer close(g.done)
	tick := time.NewTicker(guardPoll)
	defer tick.Stop()
	buf := make([]byte, 4096)
	for {
		if _, err := g.events.Read(buf); err != nil {
			return
		}
		for above := 0; ; {
			over, err := g.look()
			if err != nil || !over {
				break
			}
			if above++; above >= guardLooks {
				g.mu.Lock()
				g.killed = true
				g.mu.Unlock()
				g.kill()
				return
			}
			select {
			case <-tick.C:
			case <-g.quit:
				return
			}
		}
	}
}

// look reports whether memory that cannot be reclaimed is above the limit.
func (g *memoryGuard) look() (bool, error) {
	current, err := readNumber(g.dir, "memory.current")
	if err != nil {
		return false, err
	}
	g.mu.Lock()
	g.peak = max(g.peak, current)
	g.mu.Unlock()
	if current < g.limit {
		return false, nil
	}
	file, err := readKey(g.dir, "memory.stat", "file")
	if err != nil {
		return false, err
	}
	shmem, err := readKey(g.dir, "memory.stat", "shmem")
	if err != nil {
		return false, err
	}
	slab, err := readKey(g.dir, "memory.stat", "slab_reclaimable")
	if err != nil {
		return false, err
	}
	// file includes shmem, which has nowhere to go without swap.
	cache := file - min(file, shmem) + slab
	return current-min(current, cache) >= g.limit, nil
}

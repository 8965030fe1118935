package process

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A tree is where the processes of one task, or of one command check, live.
// The modes differ in nothing but their tree.
type tree interface {
	// birth returns the descriptor of the cgroup a child can be born in, or -1.
	birth() int
	// adopt moves a child that waits in the shim into the tree. It is called
	// only if needsShim.
	adopt(pid int) error
	needsShim() bool
	// variable is an entry for the environment of every process, or empty.
	variable() string
	// bind tells the tree its main process.
	bind(c *child)

	// signal sends sig to every process, each once, and wakes stopped ones.
	signal(sig unix.Signal) error
	// kill sends SIGKILL to every process and returns those that it found. No
	// error and nobody found means that the tree is empty; killTree repeats it
	// until then.
	kill(ctx context.Context) ([]int, error)

	// memory and usage tell what the tree has used; zero where unknown.
	memory() memoryStats
	usage() (Usage, error)

	// sub makes a tree for a command that runs inside this one.
	sub(name string) (tree, error)
	// remove frees what the tree holds. Its processes must be gone.
	remove() error
}

// memoryStats is what a memory cgroup has counted.
type memoryStats struct {
	peak     uint64
	limit    uint64
	oomKills uint64
}

// The first wait and the longest between two looks at a tree that is being
// killed.
const (
	firstKillWait = 200 * time.Microsecond
	lastKillWait  = 20 * time.Millisecond
)

// killTree kills until the tree is empty or ctx ends. Then it returns the
// processes that are left.
func killTree(ctx context.Context, t tree) ([]int, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := firstKillWait; ; wait = min(2*wait, lastKillWait) {
		left, err := t.kill(ctx)
		if err == nil && len(left) == 0 {
			return nil, nil
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return left, errors.Join(context.Cause(ctx), err)
		}
	}
}

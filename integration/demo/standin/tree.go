package standin

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Error codes of the ZooKeeper protocol.
const (
	codeOK           = 0
	codeUnimplement  = -6
	codeBadArguments = -8
	codeNoNode       = -101
	codeBadVersion   = -103
	codeNoEphemerals = -108 // children of ephemerals
	codeNodeExists   = -110
	codeNotEmpty     = -111
)

// Types of watch events.
const (
	eventCreated         = 1
	eventDeleted         = 2
	eventDataChanged     = 3
	eventChildrenChanged = 4
)

// Flags of create.
const (
	flagEphemeral  = 1
	flagSequential = 2
)

type node struct {
	data            []byte
	owner           int64 // session of an ephemeral
	children        map[string]bool
	sequence        int32
	created, change int64 // transaction ids
	childChange     int64
	createdAt       time.Time
	changedAt       time.Time
	version         int32
	childVersion    int32
}

// watcher is who is told once about a change.
type watcher interface {
	notify(event int32, path string)
}

// tree is the nodes and the watches on them. The server's lock guards it.
type tree struct {
	nodes map[string]*node
	zxid  int64
	// data has watches of getData and exists, child those of getChildren.
	data, child map[string]map[watcher]bool
}

func newTree() *tree {
	root := &node{children: map[string]bool{}, createdAt: time.Now()}
	return &tree{nodes: map[string]*node{"/": root}, data: map[string]map[watcher]bool{}, child: map[string]map[watcher]bool{}}
}

func watch(table map[string]map[watcher]bool, path string, w watcher) {
	if table[path] == nil {
		table[path] = map[watcher]bool{}
	}
	table[path][w] = true
}

func (t *tree) fire(event int32, path string, tables ...map[string]map[watcher]bool) {
	told := map[watcher]bool{}
	for _, table := range tables {
		for w := range table[path] {
			if !told[w] {
				told[w] = true
				w.notify(event, path)
			}
		}
		delete(table, path)
	}
}

// forget drops the watches of a connection that is gone.
func (t *tree) forget(w watcher) {
	for _, table := range []map[string]map[watcher]bool{t.data, t.child} {
		for path, set := range table {
			delete(set, w)
			if len(set) == 0 {
				delete(table, path)
			}
		}
	}
}

func (t *tree) create(p string, data []byte, flags int32, session int64) (created string, code int32) {
	if !strings.HasPrefix(p, "/") || flags < 0 || flags > 3 {
		return "", codeBadArguments
	}
	dir := path.Dir(p)
	parent := t.nodes[dir]
	switch {
	case parent == nil:
		return "", codeNoNode
	case parent.owner != 0:
		return "", codeNoEphemerals
	}
	if flags&flagSequential != 0 {
		p = fmt.Sprintf("%s%010d", p, parent.sequence)
	}
	if t.nodes[p] != nil {
		return "", codeNodeExists
	}
	t.zxid++
	n := &node{data: data, children: map[string]bool{}, created: t.zxid, change: t.zxid, createdAt: time.Now(), changedAt: time.Now()}
	if flags&flagEphemeral != 0 {
		n.owner = session
	}
	t.nodes[p] = n
	parent.children[path.Base(p)] = true
	parent.sequence++
	parent.childVersion++
	parent.childChange = t.zxid
	t.fire(eventCreated, p, t.data)
	t.fire(eventChildrenChanged, dir, t.child)
	return p, codeOK
}

func (t *tree) remove(p string, version int32) (code int32) {
	n := t.nodes[p]
	switch {
	case n == nil || p == "/":
		return codeNoNode
	case version >= 0 && version != n.version:
		return codeBadVersion
	case len(n.children) > 0:
		return codeNotEmpty
	}
	t.zxid++
	delete(t.nodes, p)
	dir := path.Dir(p)
	parent := t.nodes[dir]
	delete(parent.children, path.Base(p))
	parent.childVersion++
	parent.childChange = t.zxid
	t.fire(eventDeleted, p, t.data, t.child)
	t.fire(eventChildrenChanged, dir, t.child)
	return codeOK
}

func (t *tree) set(p string, data []byte, version int32) (code int32) {
	n := t.nodes[p]
	switch {
	case n == nil:
		return codeNoNode
	case version >= 0 && version != n.version:
		return codeBadVersion
	}
	t.zxid++
	n.data, n.change, n.changedAt = data, t.zxid, time.Now()
	n.version++
	t.fire(eventDataChanged, p, t.data)
	return codeOK
}

// endSession removes the session's ephemerals.
func (t *tree) endSession(session int64) {
	var owned []string
	for p, n := range t.nodes {
		if n.owner == session {
			owned = append(owned, p)
		}
	}
	slices.Sort(owned)
	for _, p := range owned {
		t.remove(p, -1)
	}
}

// names lists children, sorted.
func (n *node) names() []string {
	list := make([]string, 0, len(n.children))
	for name := range n.children {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// stat appends the node's Stat record.
func (n *node) stat(w *writer) {
	w.int64(n.created)
	w.int64(n.change)
	w.int64(n.createdAt.UnixMilli())
	w.int64(n.changedAt.UnixMilli())
	w.int32(n.version)
	w.int32(n.childVersion)
	w.int32(0) // version of the ACL
	w.int64(n.owner)
	w.int32(int32(len(n.data)))
	w.int32(int32(len(n.children)))
	w.int64(n.childChange)
}

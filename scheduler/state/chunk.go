package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"pacer/scheduler/state/record"
)

// chunkTarget is the size up to which chunks are filled, in bytes. A change to
// one task rewrites its chunk, so a smaller chunk costs less; it may still
// grow to MaxChunk when records in it change.
const chunkTarget = 2 << 10

// maxCandidates bounds how many chunks are looked at for room.
const maxCandidates = 16

// chunks knows which task is in which chunk. It is a plan: journal applies it
// to the store and keeps the new one only if that succeeds.
type chunks struct {
	of    map[string]uint32   // task ID to chunk
	tasks map[uint32][]*Task  // in each chunk
	size  map[uint32]int      // upper bound of each chunk's encoding
	open  map[uint32]struct{} // chunks with room for at least one record
	next  uint32
}

func newChunks() *chunks {
	return &chunks{
		of:    make(map[string]uint32),
		tasks: make(map[uint32][]*Task),
		size:  make(map[uint32]int),
		open:  make(map[uint32]struct{}),
	}
}

// chunkKey spreads chunks over 256 buckets by their last digits.
func chunkKey(n uint32) string {
	return fmt.Sprintf("%s/%02x/%08x", kindTasks, n&0xff, n)
}

func chunkNumber(key string) (uint32, error) {
	name := key[strings.LastIndexByte(key, '/')+1:]
	n, err := strconv.ParseUint(name, 16, 32)
	if err != nil {
		return 0, errors.New("name is not eight hex digits")
	}
	return uint32(n), nil
}

// loaded adds a chunk that is stored.
func (c *chunks) loaded(n uint32, tasks []*Task) {
	c.tasks[n] = tasks
	for _, t := range tasks {
		c.of[t.ID] = n
	}
	c.measure(n)
	c.next = max(c.next, n+1)
}

func (c *chunks) measure(n uint32) {
	size := chunkOverhead
	for _, t := range c.tasks[n] {
		size += recordSize(t)
	}
	c.size[n] = size
	if size < chunkTarget/2 {
		c.open[n] = struct{}{}
	} else {
		delete(c.open, n)
	}
}

// change is what a batch does to tasks: nil removes.
type change map[string]*Task

// check refuses records that no chunk can hold.
func (ch change) check() error {
	for id, t := range ch {
		if t == nil {
			continue
		}
		if size := chunkOverhead + recordSize(t); size > MaxChunk {
			return &SizeError{Key: "record of task " + id, Size: size, Limit: MaxChunk}
		}
	}
	return nil
}

// plan distributes ch over chunks. It returns the chunks it touches with
// their new content; c itself is unchanged.
func (c *chunks) plan(ch change) map[uint32][]*Task {
	touched := make(map[uint32][]*Task)
	content := func(n uint32) []*Task {
		if _, ok := touched[n]; !ok {
			touched[n] = slices.Clone(c.tasks[n])
		}
		return touched[n]
	}
	var added []*Task
	for _, id := range slices.Sorted(maps.Keys(ch)) {
		t := ch[id]
		n, stored := c.of[id]
		if !stored {
			if t != nil {
				added = append(added, t)
			}
			continue
		}
		list := content(n)
		at := slices.IndexFunc(list, func(have *Task) bool { return have.ID == id })
		if t != nil {
			list[at] = t
			continue
		}
		touched[n] = slices.Delete(list, at, at+1)
	}
	// Records that grew may have filled their chunk.
	for n, list := range touched {
		size := chunkOverhead
		for _, t := range list {
			size += recordSize(t)
		}
		for size > MaxChunk && len(list) > 1 {
			last := list[len(list)-1]
			list = list[:len(list)-1]
			size -= recordSize(last)
			added = append(added, last)
		}
		touched[n] = list
	}
	c.place(added, touched)
	return touched
}

// place puts new records first into chunks that are written anyway, then into
// open ones, then into fresh ones.
func (c *chunks) place(added []*Task, touched map[uint32][]*Task) {
	if len(added) == 0 {
		return
	}
	candidates := slices.Sorted(maps.Keys(touched))
	for n := range c.open {
		if len(candidates) >= maxCandidates {
			break
		}
		if _, ok := touched[n]; !ok {
			candidates = append(candidates, n)
		}
	}
	next := c.next
	size, at := 0, -1
	var current uint32
	advance := func() {
		at++
		if at < len(candidates) {
			current = candidates[at]
		} else {
			current = next
			next++
		}
		list, ok := touched[current]
		if !ok {
			list = c.tasks[current]
		}
		size = chunkOverhead
		for _, t := range list {
			size += recordSize(t)
		}
	}
	advance()
	for _, t := range added {
		need := recordSize(t)
		// A chunk takes at least one record, however large.
		for size > chunkOverhead && size+need > chunkTarget {
			advance()
		}
		if _, ok := touched[current]; !ok {
			touched[current] = slices.Clone(c.tasks[current])
		}
		touched[current] = append(touched[current], t)
		size += need
	}
}

// commit makes what plan returned the content of c.
func (c *chunks) commit(touched map[uint32][]*Task) {
	for n := range touched {
		for _, t := range c.tasks[n] {
			if c.of[t.ID] == n {
				delete(c.of, t.ID)
			}
		}
	}
	for n, list := range touched {
		if len(list) == 0 {
			delete(c.tasks, n)
			delete(c.size, n)
			delete(c.open, n)
			continue
		}
		c.loaded(n, list)
	}
}

// chunkOverhead bounds what a chunk's encoding has beside its records.
const chunkOverhead = 8

// recordSize bounds what one record adds to a chunk: every name in full.
func recordSize(t *Task) int {
	const fixed = 64 // tags, lengths, indexes, uuid, launched, shard
	size := fixed + len(t.App) + len(t.Version) + len(t.AgentID) + len(t.Hostname) +
		len(t.ExecutorID) + len(t.Reason) + 5*len(t.Ports)
	if _, ok := taskUUID(t); !ok {
		size += len(t.ID)
	}
	for name, value := range t.Attributes {
		size += len(name) + len(value) + 10
	}
	return size
}

// taskUUID returns the UUID in the ID of a task that this scheduler named.
func taskUUID(t *Task) (uuid.UUID, bool) {
	rest, ok := strings.CutPrefix(t.ID, appName(t.App)+".")
	if !ok {
		return uuid.UUID{}, false
	}
	u, err := uuid.Parse(rest)
	// Parse takes other spellings, too, which would not come back the same.
	if err != nil || u.String() != rest {
		return uuid.UUID{}, false
	}
	return u, true
}

func encodeChunk(tasks []*Task) ([]byte, error) {
	chunk := &record.TaskChunk{Version: FormatVersion, Strings: []string{""}}
	index := map[string]uint32{"": 0}
	ref := func(s string) uint32 {
		i, ok := index[s]
		if !ok {
			i = uint32(len(chunk.Strings))
			index[s] = i
			chunk.Strings = append(chunk.Strings, s)
		}
		return i
	}
	for _, t := range tasks {
		r := &record.Task{
			App:        ref(t.App),
			AgentId:    ref(t.AgentID),
			Hostname:   ref(t.Hostname),
			ExecutorId: ref(t.ExecutorID),
			AppVersion: ref(t.Version),
			Ports:      t.Ports,
			Intent:     record.Intent(t.Intent),
			Reason:     ref(t.Reason),
			Launched:   milliseconds(t.Launched),
			Shard:      uint32(t.Shard + 1),
		}
		if u, ok := taskUUID(t); ok {
			r.Uuid = u[:]
		} else {
			r.RawId = t.ID
		}
		for _, name := range slices.Sorted(maps.Keys(t.Attributes)) {
			r.Attributes = append(r.Attributes, ref(name), ref(t.Attributes[name]))
		}
		chunk.Tasks = append(chunk.Tasks, r)
	}
	data, err := marshal(chunk)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxChunk {
		return nil, &SizeError{Key: "task record " + tasks[0].ID, Size: len(data), Limit: MaxChunk}
	}
	return data, nil
}

func decodeChunk(data []byte) ([]*Task, error) {
	chunk := new(record.TaskChunk)
	if err := unmarshal(data, chunk); err != nil {
		return nil, err
	}
	var bad error
	name := func(i uint32) string {
		if int64(i) >= int64(len(chunk.Strings)) {
			bad = fmt.Errorf("chunk has %d names, a record refers to number %d", len(chunk.Strings), i)
			return ""
		}
		return chunk.Strings[i]
	}
	var tasks []*Task
	for _, r := range chunk.Tasks {
		t := &Task{
			ID:         r.RawId,
			App:        name(r.App),
			Version:    name(r.AppVersion),
			AgentID:    name(r.AgentId),
			Hostname:   name(r.Hostname),
			ExecutorID: name(r.ExecutorId),
			Ports:      r.Ports,
			Intent:     Intent(r.Intent),
			Reason:     name(r.Reason),
			Launched:   fromMilliseconds(r.Launched),
			Shard:      int(r.Shard) - 1,
		}
		if r.Intent != record.Intent_INTENT_RUN && r.Intent != record.Intent_INTENT_KILL {
			return nil, fmt.Errorf("%w: a task has intent %d", ErrFormat, r.Intent)
		}
		switch len(r.Uuid) {
		case 0:
		case 16:
			t.ID = appName(t.App) + "." + uuid.UUID(r.Uuid).String()
		default:
			return nil, fmt.Errorf("task uuid has %d bytes, not 16", len(r.Uuid))
		}
		if t.ID == "" {
			return nil, errors.New("task record has no id")
		}
		if len(r.Attributes)%2 != 0 {
			return nil, errors.New("attributes of a task are not pairs")
		}
		for pair := range slices.Chunk(r.Attributes, 2) {
			if t.Attributes == nil {
				t.Attributes = make(map[string]string, len(r.Attributes)/2)
			}
			t.Attributes[name(pair[0])] = name(pair[1])
		}
		if bad != nil {
			return nil, bad
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

package state

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// PublicKeys reads the public keys of all schedulers without leading.
func PublicKeys(ctx context.Context, store Store) (map[string]PublicKey, error) {
	all := make(map[string]PublicKey)
	err := store.Read(ctx, func(key string, value []byte) error {
		k, err := decodePublicKey(value)
		if err != nil {
			return &RecordError{Key: key, Err: err}
		}
		all[k.ID] = k
		return nil
	}, kindKeys)
	if err != nil {
		return nil, fmt.Errorf("read public keys: %w", err)
	}
	return all, nil
}

// KindSize says what the nodes of a kind take.
type KindSize struct {
	Kind         string
	Nodes        int
	Bytes        int    // keys and values
	Largest      string // key
	LargestBytes int    // of its value
}

// Sizes measures a state, by kind in alphabetical order.
func Sizes(ctx context.Context, store Store) ([]KindSize, error) {
	kinds := make(map[string]*KindSize)
	err := store.Read(ctx, func(key string, value []byte) error {
		kind, _, _ := strings.Cut(key, "/")
		k := kinds[kind]
		if k == nil {
			k = &KindSize{Kind: kind}
			kinds[kind] = k
		}
		k.Nodes++
		k.Bytes += len(key) + len(value)
		if len(value) > k.LargestBytes || k.Largest == "" {
			k.Largest, k.LargestBytes = key, len(value)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure state: %w", err)
	}
	var list []KindSize
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, *kinds[kind])
	}
	return list, nil
}

// A backup is JSON, an object a line: a header, the nodes by ascending keys,
// and an end, whose sum is over all lines before it.
type (
	backupHeader struct {
		Backup   int       `json:"pacer_state_backup"` // backupVersion
		Exported time.Time `json:"exported"`
	}
	backupNode struct {
		Key   string `json:"key"`
		Value []byte `json:"value"` // base 64
	}
	backupEnd struct {
		Nodes  *int   `json:"nodes"`
		SHA256 string `json:"sha256"`
	}
)

const (
	backupVersion = 1
	// maxBackupLine is far above what a node of MaxNode takes.
	maxBackupLine = 4 * MaxNode
)

// Export writes a backup of a state and returns the number of its nodes. The
// backup may hold the key that signs task identities: keep it private. Of a
// state that is being changed it is not of one moment; what Import makes of
// that is safe, but may lack the last changes.
func Export(ctx context.Context, store Store, to io.Writer) (int, error) {
	nodes := make(map[string][]byte)
	err := store.Read(ctx, func(key string, value []byte) error {
		nodes[key] = slices.Clone(value)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read state: %w", err)
	}
	sum := sha256.New()
	out := bufio.NewWriter(to)
	encode := json.NewEncoder(io.MultiWriter(out, sum))
	err = encode.Encode(backupHeader{Backup: backupVersion, Exported: time.Now().UTC()})
	for _, key := range slices.Sorted(maps.Keys(nodes)) {
		err = errors.Join(err, encode.Encode(backupNode{Key: key, Value: nodes[key]}))
	}
	count := len(nodes)
	err = errors.Join(err, json.NewEncoder(out).Encode(backupEnd{Nodes: &count, SHA256: hex.EncodeToString(sum.Sum(nil))}), out.Flush())
	if err != nil {
		return 0, fmt.Errorf("write backup: %w", err)
	}
	return count, nil
}

// ErrNotEmpty says that a state has nodes where none are expected.
var ErrNotEmpty = errors.New("the state is not empty")

// Import puts a backup into a state and returns the number of its nodes. What
// the state holds is replaced if replace is set, else Import fails with
// ErrNotEmpty. Nothing is written before the whole backup has been checked.
//
// Tombstones are left out: with them the tasks of an app that was deleted
// before the backup and made again after it would be killed. Without them
// they are left alone, like all tasks that the backup does not know.
func Import(ctx context.Context, store Store, from io.Reader, replace bool) (int, error) {
	nodes, err := readBackup(from)
	if err != nil {
		return 0, fmt.Errorf("read backup: %w", err)
	}
	session, err := store.Lead(ctx)
	if err != nil {
		return 0, fmt.Errorf("lead state: %w", err)
	}
	var ops []Op
	err = session.Load(ctx, func(key string, _ []byte) error {
		if _, kept := nodes[key]; !kept {
			ops = append(ops, Op{Key: key})
		}
		if !replace {
			return ErrNotEmpty
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	// The framework id comes first: what follows is worthless without it.
	for _, key := range slices.SortedFunc(maps.Keys(nodes), metaFirst) {
		ops = append(ops, Op{Key: key, Value: nodes[key]})
	}
	for len(ops) > 0 {
		n, size := 0, 0
		for n < len(ops) && (n == 0 || size+ops[n].cost() <= MaxBatch) {
			size += ops[n].cost()
			n++
		}
		if err := session.Apply(ctx, ops[:n]); err != nil {
			return 0, fmt.Errorf("write state: %w: it is incomplete, import the backup again with --replace", err)
		}
		ops = ops[n:]
	}
	return len(nodes), nil
}

func metaFirst(a, b string) int {
	meta := func(key string) bool { return strings.HasPrefix(key, kindMeta+"/") }
	switch {
	case meta(a) == meta(b):
		return strings.Compare(a, b)
	case meta(a):
		return -1
	default:
		return 1
	}
}

// readBackup returns the nodes of a backup that is complete, and of which this
// build can read every record.
func readBackup(from io.Reader) (map[string][]byte, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxBackupLine)
	sum := sha256.New()
	if !lines.Scan() {
		return nil, errors.Join(errors.New("it is empty"), lines.Err())
	}
	var header backupHeader
	if err := json.Unmarshal(lines.Bytes(), &header); err != nil || header.Backup == 0 {
		return nil, errors.New("its first line is no header: it was not made by 'pacer-scheduler state export'")
	}
	if header.Backup > backupVersion {
		return nil, fmt.Errorf("%w: the backup has version %d, this one reads up to %d", ErrFormat, header.Backup, backupVersion)
	}
	add(sum, lines.Bytes())
	nodes := make(map[string][]byte)
	scratch, read := &Journal{chunks: newChunks()}, newSnapshot()
	for count := 0; lines.Scan(); count++ {
		var line struct {
			backupNode
			backupEnd
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d is neither a node nor the end", count+2)
		}
		if line.Nodes != nil {
			switch {
			case *line.Nodes != count || line.SHA256 != hex.EncodeToString(sum.Sum(nil)):
				return nil, errors.New("its sum is wrong: it is damaged or was changed")
			case lines.Scan():
				return nil, errors.New("something follows its end")
			}
			return nodes, lines.Err()
		}
		add(sum, lines.Bytes())
		if line.Key == "" || line.Value == nil {
			return nil, fmt.Errorf("line %d is neither a node nor the end", count+2)
		}
		if err := scratch.load(read, line.Key, line.Value); err != nil {
			return nil, &RecordError{Key: line.Key, Err: err}
		}
		if !strings.HasPrefix(line.Key, kindTombstones+"/") {
			nodes[line.Key] = line.Value
		}
	}
	return nil, errors.Join(errors.New("its end is missing: it is not complete"), lines.Err())
}

func add(sum hash.Hash, line []byte) {
	sum.Write(line)
	sum.Write([]byte{'\n'})
}

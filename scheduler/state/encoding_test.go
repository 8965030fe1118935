package state

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pacer/scheduler/state/record"
)

func TestUnmarshal_RefusesWhatItMayMisread(t *testing.T) {
	encode := func(version uint32) []byte {
		data, err := marshal(&record.Framework{Version: version, Id: "f"})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, test := range map[string]struct {
		data   []byte
		format bool
		want   string
	}{
		"newer":      {encode(FormatVersion + 1), true, "start the newer scheduler"},
		"no version": {encode(0), false, "no format version"},
		"empty":      {nil, false, "no format version"},
		"garbage":    {[]byte("\xff\xff"), false, "not a record"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeFramework(test.data)
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrFormat) != test.format {
				t.Errorf("err = %v (ErrFormat %v), want %q (%v)", err, errors.Is(err, ErrFormat), test.want, test.format)
			}
		})
	}
}

func TestDecodeChunk_RefusesBadReferences(t *testing.T) {
	for name, task := range map[string]*record.Task{
		"name out of range": {RawId: "t", App: 7},
		"short uuid":        {Uuid: []byte{1, 2}},
		"no id":             {},
		"odd attributes":    {RawId: "t", Attributes: []uint32{0}},
		"unknown intent":    {RawId: "t", Intent: 9},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := marshal(&record.TaskChunk{Version: FormatVersion, Strings: []string{""}, Tasks: []*record.Task{task}})
			if err != nil {
				t.Fatal(err)
			}
			if tasks, err := decodeChunk(data); err == nil {
				t.Errorf("took %+v", tasks[0])
			}
		})
	}
}

func TestRecordSize_IsAnUpperBound(t *testing.T) {
	for name, task := range map[string]*Task{
		"empty": {ID: "x", Shard: -1},
		"usual": {
			ID: "a_b.7c1b7a2e-4bdf-4b52-9a7e-7a2f5d0f4a10", App: "/a/b", Version: "2026-03-01T12:00:00.123Z",
			AgentID: "7d2f6f0c-S1", Hostname: "h", ExecutorID: "e", Ports: []uint32{65535, 1}, Intent: IntentKill,
			Reason: "r", Launched: time.Now(), Shard: 1 << 20, Attributes: map[string]string{"rack": "1", "": ""},
		},
		"long": {ID: strings.Repeat("i", 200), App: "/" + strings.Repeat("a", 300), Launched: time.Now()},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := encodeChunk([]*Task{task})
			if err != nil {
				t.Fatal(err)
			}
			if bound := chunkOverhead + recordSize(task); len(data) > bound {
				t.Errorf("encoded %d bytes, bound %d", len(data), bound)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	task := &Task{ID: "a.7c1b7a2e-4bdf-4b52-9a7e-7a2f5d0f4a10", App: "/a", Ports: []uint32{1}, Attributes: map[string]string{"a": "b"}}
	chunk, err := encodeChunk([]*Task{task})
	if err != nil {
		f.Fatal(err)
	}
	app, err := encodeApp(&App{Path: "/a", Definition: Definition{Version: "1", Body: make([]byte, 3000)}, Deployment: &Deployment{ID: "d"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(chunk)
	f.Add(app)
	f.Fuzz(func(t *testing.T, data []byte) {
		if tasks, err := decodeChunk(data); err == nil && len(tasks) > 0 {
			if again, err := encodeChunk(tasks); err == nil {
				back, err := decodeChunk(again)
				if err != nil {
					t.Fatalf("own encoding: %v", err)
				}
				if diff := cmp.Diff(tasks, back); diff != "" {
					t.Error(diff)
				}
			}
		}
		if a, err := decodeApp(data); err == nil {
			if _, err := encodeApp(a); err != nil {
				t.Error(err)
			}
		}
		_, _ = decodeOldVersion(data)
		_, _ = decodeTombstone(data)
		_, _ = decodeExecutor(data)
		_, _ = decodePublicKey(data)
		_, _ = decodeIdentity(data)
	})
}

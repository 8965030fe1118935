package statetest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"pacer/scheduler/state"
)

// Memory is a store in memory whose writes can be made to fail. It outlives
// Close, so that a test can open the same state again. The zero value is
// empty and ready.
type Memory struct {
	mu    sync.Mutex
	nodes map[string][]byte
	epoch uint64
	// before is asked before each transaction.
	before func([]state.Op) error
	writes int
	// trouble is what sessions say about being reached.
	trouble error
}

// Open opens the state, as a new process would.
func (m *Memory) Open() state.Store { return &memoryStore{memory: m} }

// Before makes f decide about each transaction from now on: its error is the
// outcome, and nothing is written. nil lets all pass.
func (m *Memory) Before(f func([]state.Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = f
}

// SetTrouble makes sessions say that the store cannot be reached, or with nil
// that it can. It does not make writes fail; see Before.
func (m *Memory) SetTrouble(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = err
}

// Writes counts the transactions so far.
func (m *Memory) Writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// Nodes returns a copy of everything.
func (m *Memory) Nodes() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string][]byte, len(m.nodes))
	for key, value := range m.nodes {
		all[key] = slices.Clone(value)
	}
	return all
}

type memoryStore struct {
	memory *Memory
	closed bool // under memory's lock
}

func (s *memoryStore) Lead(ctx context.Context) (state.Session, error) {
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed {
		return nil, state.ErrClosed
	}
	m.epoch++
	return &memorySession{store: s, epoch: m.epoch}, nil
}

func (s *memoryStore) Read(ctx context.Context, yield func(string, []byte) error, kinds ...string) error {
	all := s.memory.Nodes()
	for _, key := range keys(all) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if kind, _, _ := strings.Cut(key, "/"); len(kinds) > 0 && !slices.Contains(kinds, kind) {
			continue
		}
		if err := yield(key, all[key]); err != nil {
			return err
		}
	}
	return nil
}

func (s *memoryStore) Close() error {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.closed = true
	return nil
}

type memorySession struct {
	store *memoryStore
	epoch uint64
}

func (s *memorySession) Epoch() uint64 { return s.epoch }

func (s *memorySession) check() error {
	switch {
	case s.store.closed:
		return state.ErrClosed
	case s.epoch != s.store.memory.epoch:
		return state.ErrFenced
	}
	return nil
}

func (s *memorySession) Load(ctx context.Context, yield func(string, []byte) error) error {
	m := s.store.memory
	m.mu.Lock()
	err := s.check()
	m.mu.Unlock()
	if err != nil {
		return err
	}
	all := m.Nodes()
	for _, key := range keys(all) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(key, all[key]); err != nil {
			return err
		}
	}
	return nil
}

func (s *memorySession) Check(ctx context.Context) error {
	s.store.memory.mu.Lock()
	defer s.store.memory.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.check()
}

func (s *memorySession) Trouble() error {
	s.store.memory.mu.Lock()
	defer s.store.memory.mu.Unlock()
	return s.store.memory.trouble
}

func (s *memorySession) Apply(ctx context.Context, ops []state.Op) error {
	m := s.store.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := state.CheckOps(ops); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	if before := m.before; before != nil {
		m.mu.Unlock()
		err := before(ops)
		m.mu.Lock()
		if err != nil {
			return err
		}
		if err := s.check(); err != nil {
			return err
		}
	}
	m.writes++
	if m.nodes == nil {
		m.nodes = make(map[string][]byte)
	}
	for _, op := range ops {
		if op.Value == nil {
			delete(m.nodes, op.Key)
		} else {
			m.nodes[op.Key] = append([]byte{}, op.Value...)
		}
	}
	return nil
}

package statetest

import (
	"testing"

	"go.uber.org/goleak"

	"pacer/scheduler/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	states := make(map[string]*Memory)
	Run(t, Kind{
		Make: func(t *testing.T) string {
			states[t.Name()] = new(Memory)
			return t.Name()
		},
		Open:   func(_ *testing.T, address string) (state.Store, error) { return states[address].Open(), nil },
		Shared: true,
	})
}

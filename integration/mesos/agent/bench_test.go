package agent

import (
	"strconv"
	"testing"

	"pacer/integration/mesos/link"
)

// From a launch to the end of an executor that exits at once: sandbox, checkpoints,
// helper, process, reaping.
func BenchmarkExecutorLife(b *testing.B) {
	h := newHarness(b, nil)
	end := h.register()
	n := 0
	for b.Loop() {
		n++
		id := strconv.Itoa(n)
		h.launch(end, true, shellExecutor("e"+id, "exit 0"), "t"+id)
		receive[link.ExitedExecutor](h)
		h.acknowledge(end, receive[link.StatusUpdate](h))
	}
}

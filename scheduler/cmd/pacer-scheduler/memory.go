package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restInterval is the time between two looks at how busy we are.
	restInterval = 10 * time.Second
	// restAllocation in that time, in bytes, is little.
	restAllocation = 4 << 20
)

// giveBack returns memory to the system when a burst of work is over. The
// runtime alone keeps about twice of what is needed, for a next burst that may
// be days away.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(restInterval)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var last uint64
	busy := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(sample)
		allocated := sample[0].Value.Uint64()
		switch {
		case allocated-last > restAllocation:
			busy = true
		case busy:
			busy = false
			debug.FreeOSMemory()
		}
		last = allocated
	}
}

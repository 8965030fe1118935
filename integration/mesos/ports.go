package mesos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"pacer/integration/mesos/resource"
)

// Blocks of ports lie below what Linux gives to outgoing connections by default.
const (
	firstBlock = 10000
	lastBlock  = 32600
	blockSize  = 101 // the guard and what is offered
)

// portBlocks are the blocks of ports that a cluster's agents offer. A block is
// reserved on this machine by listening on its first port, the guard, which is not
// offered.
type portBlocks struct {
	mu     sync.Mutex
	guards []net.Listener
}

// next reserves a block and returns n of its ports as a resource.
func (p *portBlocks) next(n int) (resource.Set, error) {
	if n == 0 {
		n = blockSize - 1
	}
	if n < 0 || n >= blockSize {
		return nil, fmt.Errorf("%d ports per agent: want 1 to %d, or name them in Resources", n, blockSize-1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := (lastBlock - firstBlock) / blockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		first := firstBlock + (start+i)%blocks*blockSize
		guard, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
		if err != nil {
			continue
		}
		p.guards = append(p.guards, guard)
		return resource.From([]mesos.Resource{portRange(uint64(first)+1, uint64(first+n))})
	}
	return nil, errors.New("no block of free ports left on this machine")
}

func portRange(begin, end uint64) mesos.Resource {
	kind := mesos.RANGES
	return mesos.Resource{Name: "ports", Type: &kind, Ranges: &mesos.Value_Ranges{
		Range: []mesos.Value_Range{{Begin: begin, End: end}},
	}}
}

func (p *portBlocks) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, guard := range p.guards {
		guard.Close()
	}
	p.guards = nil
}

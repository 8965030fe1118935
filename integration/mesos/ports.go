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

// Blocks of ports lie below what Linux gives to outgoing connections by default, so
// that nothing takes the port of an agent or a master between two of its lives.
const (
	firstBlock = 10000
	lastBlock  = 32600
	blockSize  = 102 // the guard, the server of an agent or a master, and what is offered
)

// portBlocks are the blocks of ports of a cluster. A block is reserved on this machine
// by listening on its first port, the guard, which is used for nothing else.
type portBlocks struct {
	mu     sync.Mutex
	guards []net.Listener
}

// next reserves a block. It returns the address for a server, and n of its ports as a
// resource.
func (p *portBlocks) next(n int) (address string, offered resource.Set, err error) {
	if n == 0 {
		n = blockSize - 2
	}
	if n < 0 || n > blockSize-2 {
		return "", nil, fmt.Errorf("%d ports per agent: want 1 to %d, or name them in Resources", n, blockSize-2)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	blocks := (lastBlock - firstBlock) / blockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		first := firstBlock + (start+i)%blocks*blockSize
		guard, err := net.Listen("tcp", loopback(first))
		if err != nil {
			continue
		}
		server, err := net.Listen("tcp", loopback(first+1))
		if err != nil {
			guard.Close()
			continue
		}
		server.Close()
		p.guards = append(p.guards, guard)
		offered, err := resource.From([]mesos.Resource{portRange(uint64(first)+2, uint64(first+n)+1)})
		return loopback(first + 1), offered, err
	}
	return "", nil, errors.New("no block of free ports left on this machine")
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

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

package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Pump copies what is written to a pipe to a writer.
//
// It holds memory only while it copies, from a pool that all pumps share, so
// that 1,000 quiet tasks cost 1,000 parked goroutines. A task that writes often
// and little is read in batches: after a small read the pump waits for more,
// which delays a line by up to 5 ms and saves a wake-up for each line. The wait
// shrinks when the pipe fills meanwhile, so that it never slows a task down for
// long.
type Pump struct {
	src      *os.File
	dst      io.Writer
	onError  func(error)
	stopping chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	failing  bool
}

const (
	// bufferSize is the capacity of a pipe (pipe(7)): more cannot be read at
	// once.
	bufferSize = 64 << 10
	// smallRead is what is worth waiting for more.
	smallRead = bufferSize / 4
	// fullRead is a sign that the task had to wait.
	fullRead = bufferSize / 2

	maxDelay = 5 * time.Millisecond
	minDelay = 100 * time.Microsecond
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// NewPump starts to copy from src, the read end of a pipe in non-blocking mode,
// and closes src when it ends: at the end of the stream or by Drain. onError is
// called from the pump's goroutine when dst fails after having worked; the pump
// goes on reading, so that the task is not held up.
func NewPump(src *os.File, dst io.Writer, onError func(error)) *Pump {
	p := &Pump{
		src: src, dst: dst, onError: onError,
		stopping: make(chan struct{}),
		done:     make(chan struct{}),
	}
	go p.copyLoop()
	return p
}

// Done is closed when everything has been copied and the pump has ended.
func (p *Pump) Done() <-chan struct{} { return p.done }

// Drain copies what is in the pipe, even if some process still holds its write
// end, and ends the pump. It returns ctx's error if the writer does not take
// the rest in time.
func (p *Pump) Drain(ctx context.Context) error {
	p.stopOnce.Do(func() {
		close(p.stopping)
		// Wakes the reader; what is in the pipe is read without the poller.
		p.src.SetReadDeadline(time.Unix(1, 0))
	})
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write the rest of the output: %w", context.Cause(ctx))
	}
}

func (p *Pump) copyLoop() {
	defer close(p.done)
	defer p.src.Close()
	conn, err := p.src.SyscallConn()
	if err != nil {
		p.onError(err)
		return
	}
	delay, timer := maxDelay, time.NewTimer(0)
	defer timer.Stop()
	for {
		n, err := p.step(conn.Read)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.rest(conn)
			return
		}
		if err != nil {
			p.onError(err)
			return
		}
		if n == 0 {
			return
		}
		if n >= fullRead {
			delay = max(delay/2, minDelay)
		}
		if n >= smallRead {
			continue
		}
		timer.Reset(delay)
		delay = min(delay+delay/8, maxDelay)
		select {
		case <-timer.C:
		case <-p.stopping:
		}
	}
}

// rest copies what the pipe holds now. A process that escaped and goes on
// writing cannot make it endless: a pipe holds no more than its capacity.
func (p *Pump) rest(conn syscall.RawConn) {
	capacity := bufferSize
	conn.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			capacity = n
		}
	})
	once := func(f func(uintptr) bool) error {
		return conn.Control(func(fd uintptr) { f(fd) })
	}
	for total := 0; total < capacity; {
		n, err := p.step(once)
		if err != nil || n <= 0 {
			return
		}
		total += n
	}
}

// step reads once and writes what it read. read waits until there is something,
// or does not wait; then n may be -1.
func (p *Pump) step(read func(func(uintptr) bool) error) (n int, err error) {
	var buf *[bufferSize]byte
	defer func() {
		if buf != nil {
			buffers.Put(buf)
		}
	}()
	n = -1
	var rerr error
	err = read(func(fd uintptr) bool {
		buf = buffers.Get().(*[bufferSize]byte)
		for {
			n, rerr = unix.Read(int(fd), buf[:])
			if !errors.Is(rerr, unix.EINTR) {
				break
			}
		}
		if errors.Is(rerr, unix.EAGAIN) {
			// Nothing to hold on to while waiting.
			buffers.Put(buf)
			buf, n, rerr = nil, -1, nil
			return false
		}
		return true
	})
	if err = errors.Join(err, rerr); err != nil {
		return n, err
	}
	if n > 0 {
		p.write(buf[:n])
	}
	return n, nil
}

func (p *Pump) write(b []byte) {
	_, err := p.dst.Write(b)
	if err != nil && !p.failing {
		p.onError(err)
	}
	p.failing = err != nil
}

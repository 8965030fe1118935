package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe returns a non-blocking read end and a blocking write end.
func pipe(t testing.TB) (*os.File, *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
}

func noError(t testing.TB) func(error) { return func(err error) { t.Error(err) } }

func waitPump(t testing.TB, p *Pump) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the pump does not end")
	}
}

func TestPump_CopiesToTheEnd(t *testing.T) {
	r, w := pipe(t)
	var got bytes.Buffer
	p := NewPump(r, &got, noError(t))
	var want bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(io.MultiWriter(w, &want), "%d %s", i, strings.Repeat("y", i%300))
	}
	w.Close()
	waitPump(t, p)
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("copied %d bytes, want %d", got.Len(), want.Len())
	}
}

func TestPump_DrainsAPipeThatStaysOpen(t *testing.T) {
	r, w := pipe(t)
	defer w.Close()
	var got bytes.Buffer
	p := NewPump(r, &got, noError(t))
	io.WriteString(w, "a line\nand a part")
	if err := p.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got.String() != "a line\nand a part" {
		t.Errorf("got %q", got.String())
	}
}

// TestPump_DrainIsBounded: somebody who holds the pipe and writes for ever
// cannot keep the pump.
func TestPump_DrainIsBounded(t *testing.T) {
	r, w := pipe(t)
	p := NewPump(r, io.Discard, noError(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return // EPIPE: the pump has closed its end.
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	w.Close()
}

type gate struct {
	entered, leave chan struct{}
	once           sync.Once
}

func (g *gate) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.entered) })
	<-g.leave
	return len(p), nil
}

func TestPump_DrainGivesUpOnAWriterThatHangs(t *testing.T) {
	r, w := pipe(t)
	defer w.Close()
	g := &gate{entered: make(chan struct{}), leave: make(chan struct{})}
	p := NewPump(r, g, noError(t))
	io.WriteString(w, "x")
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain = %v, want context.Canceled", err)
	}
	close(g.leave)
	waitPump(t, p)
}

type failing struct {
	errs []error
	got  bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		if err != nil {
			return 0, err
		}
	}
	return f.got.Write(p)
}

func TestPump_GoesOnAfterAFailedWrite(t *testing.T) {
	r, w := pipe(t)
	dst := &failing{errs: []error{unix.ENOSPC}}
	var reported []error
	p := NewPump(r, dst, func(err error) { reported = append(reported, err) })
	big := bytes.Repeat([]byte("z"), 3*bufferSize)
	if _, err := w.Write(big); err != nil {
		t.Fatal(err)
	}
	w.Close()
	waitPump(t, p)
	if len(reported) != 1 || !errors.Is(reported[0], unix.ENOSPC) {
		t.Errorf("reported %v, want ENOSPC once", reported)
	}
	if dst.got.Len() == 0 {
		t.Error("nothing was written after the failure")
	}
}

// TestPump_FastWriterKeepsMemoryBounded is the budget of 8 MiB of memory for a
// task that writes as fast as it can.
func TestPump_FastWriterKeepsMemoryBounded(t *testing.T) {
	total := 400 << 20
	if testing.Short() {
		total = 100 << 20
	}
	dir := filepath.Join(t.TempDir(), "task")
	l := open(t, dir, DefaultPolicy())
	r, w := pipe(t)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	p := NewPump(r, l.Stdout, noError(t))
	line := append(bytes.Repeat([]byte("x"), 99), '\n')
	block := bytes.Repeat(line, 600)
	start := time.Now()
	for n := 0; n < total; n += len(block) {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	waitPump(t, p)
	took := time.Since(start)
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapSys) - int64(before.HeapSys)
	t.Logf("%d MiB in %v (%.0f MB/s), heap grew by %d KiB", total>>20, took.Round(time.Millisecond), float64(total)/1e6/took.Seconds(), grown>>10)
	if grown > 8<<20 {
		t.Errorf("heap grew by %d bytes, want at most 8 MiB", grown)
	}
	for i, b := range files(t, dir, StdoutName) {
		if len(b)%len(line) != 0 {
			t.Errorf("file %d has %d bytes: torn lines", i, len(b))
		}
	}
}

// chatterVariable makes TestMain play that many tasks that each write 1 MB/s, a
// thousand bytes in lines of 100 every millisecond.
const chatterVariable = "PACER_TEST_CHATTER"

func chatter(tasks string) {
	n, err := strconv.Atoi(tasks)
	if err != nil {
		panic(err)
	}
	block := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), 10)
	// What a sleep took too long is made up for, as a task would.
	for start, sent := time.Now(), 0; ; time.Sleep(time.Millisecond) {
		for ; sent < int(time.Since(start).Milliseconds()); sent++ {
			for fd := 3; fd < 3+n; fd++ {
				if _, err := unix.Write(fd, block); err != nil {
					return
				}
			}
		}
	}
}

// BenchmarkChattyTasks reports what 100 such tasks cost of one core: pumps,
// files and rotation, not the writing.
func BenchmarkChattyTasks(b *testing.B) {
	const tasks = 100
	dir := b.TempDir()
	var pumps []*Pump
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", chatterVariable, tasks))
	var written atomic.Int64
	for i := range tasks {
		l := open(b, filepath.Join(dir, strconv.Itoa(i)), DefaultPolicy())
		r, w := pipe(b)
		pumps = append(pumps, NewPump(r, counted{l.Stdout, &written}, noError(b)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for _, w := range cmd.ExtraFiles {
		w.Close()
	}
	start, before := time.Now(), cpuTime(b)
	for b.Loop() {
		time.Sleep(2 * time.Second)
	}
	took, used := time.Since(start), cpuTime(b)-before
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(written.Load())/1e6/took.Seconds(), "MB/s")
	b.ReportMetric(0, "ns/op")
	cmd.Process.Kill()
	cmd.Wait()
	for _, p := range pumps {
		waitPump(b, p)
	}
}

type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Writer.Write(p)
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPump(b *testing.B) {
	for _, size := range []int{100, 4096, bufferSize} {
		b.Run(fmt.Sprintf("writes of %d B", size), func(b *testing.B) {
			l := open(b, filepath.Join(b.TempDir(), "task"), DefaultPolicy())
			r, w := pipe(b)
			p := NewPump(r, l.Stdout, noError(b))
			block := append(bytes.Repeat([]byte("x"), size-1), '\n')
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			w.Close()
			waitPump(b, p)
		})
	}
}

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"pacer/executor/logs"
)

// output connects a child's descriptors 0, 1 and 2.
type output struct {
	files []uintptr // what the child gets
	own   []int     // descriptors to close once the child has them
	ends  []pipeEnd
	pumps []*logs.Pump
}

// pipeEnd is the read end of a pipe and where it leads.
type pipeEnd struct {
	src *os.File
	dst io.Writer
}

func openOutput(stdout, stderr io.Writer) (_ *output, err error) {
	o := &output{}
	defer func() {
		if err != nil {
			o.abort()
		}
	}()
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	o.own = append(o.own, null)
	o.files = append(o.files, uintptr(null))
	if err := o.connect(stdout); err != nil {
		return nil, err
	}
	if sameWriter(stdout, stderr) {
		o.files = append(o.files, o.files[1])
		return o, nil
	}
	return o, o.connect(stderr)
}

func (o *output) connect(w io.Writer) error {
	switch w := w.(type) {
	case nil:
		o.files = append(o.files, o.files[0])
		return nil
	case *os.File:
		o.files = append(o.files, w.Fd())
		return nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe for output: %w", err)
	}
	o.own = append(o.own, p[1])
	o.files = append(o.files, uintptr(p[1]))
	// Only our end does not block: the flag belongs to the open file, and the
	// two ends are two.
	if err := unix.SetNonblock(p[0], true); err != nil {
		unix.Close(p[0])
		return fmt.Errorf("make a pipe for output: %w", err)
	}
	o.ends = append(o.ends, pipeEnd{os.NewFile(uintptr(p[0]), "pipe"), w})
	return nil
}

// sameWriter is a == b for values whose types may not allow to ask.
func sameWriter(a, b io.Writer) bool {
	defer func() { recover() }()
	return a != nil && a == b
}

// closeOwn closes what the child has inherited, so that the pipes end with it.
func (o *output) closeOwn() {
	for _, fd := range o.own {
		unix.Close(fd)
	}
	o.own = nil
}

// abort closes everything of a start that failed.
func (o *output) abort() {
	o.closeOwn()
	for _, e := range o.ends {
		e.src.Close()
	}
	o.ends = nil
}

// pump starts to copy.
func (o *output) pump(onError func(error)) {
	for _, e := range o.ends {
		o.pumps = append(o.pumps, logs.NewPump(e.src, e.dst, onError))
	}
	o.ends = nil
}

// drain writes what is left in the pipes.
func (o *output) drain(ctx context.Context) error {
	var errs []error
	for _, p := range o.pumps {
		errs = append(errs, p.Drain(ctx))
	}
	return errors.Join(errs...)
}

// tailWriter keeps the end of what is written to it. Only its pump writes; read
// it after the pump has ended.
type tailWriter struct {
	size int
	buf  []byte
	cut  bool // something before buf was dropped
}

func (t *tailWriter) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.size {
		p, t.cut = p[len(p)-t.size:], true
	}
	if over := len(t.buf) + len(p) - t.size; over > 0 {
		t.buf, t.cut = append(t.buf[:0], t.buf[over:]...), true
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

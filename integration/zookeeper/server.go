package zookeeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrMissing is wrapped by errors that say that java or the jars are not
// installed.
var ErrMissing = errors.New("ZooKeeper is not installed")

// Options of a server. The zero value has all defaults.
type Options struct {
	// Dir holds configuration, data and log; it must exist. Default: a new
	// temporary directory, removed by [Server.Close].
	Dir string
	// Tick is ZooKeeper's tickTime: session timeouts are at least 2 ticks, and
	// are checked once in a tick. Default 200 ms.
	Tick time.Duration
	// MaxSession is the longest session timeout that clients get. Default 60 s.
	MaxSession time.Duration
	// Fsync makes the server flush every write to the disk, as it does in
	// production. Off by default, because tests do not lose power.
	Fsync bool
	// HeapMiB is the size of the Java heap. Default 128.
	HeapMiB int
}

// Server is a running ZooKeeper server.
type Server struct {
	opts    Options
	port    int
	tempDir bool

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been waited for
}

// jars are needed to run a server; the manifest of the first names the rest.
var jars = []string{"zookeeper.jar", "slf4j-nop.jar"}

const jarDir = "/usr/share/java"

// Installed returns nil if a server can be run here, and otherwise an error
// wrapping [ErrMissing] that says what to install.
func Installed() error {
	if _, err := exec.LookPath("java"); err != nil {
		return fmt.Errorf("%w: no java in PATH: apt-get install zookeeper", ErrMissing)
	}
	for _, jar := range jars {
		if _, err := os.Stat(filepath.Join(jarDir, jar)); err != nil {
			return fmt.Errorf("%w: no %s/%s: apt-get install zookeeper", ErrMissing, jarDir, jar)
		}
	}
	return nil
}

// Run starts a server and returns when it answers. Close it.
func Run(ctx context.Context, o Options) (*Server, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	if o.Tick <= 0 {
		o.Tick = 200 * time.Millisecond
	}
	if o.MaxSession <= 0 {
		o.MaxSession = time.Minute
	}
	if o.HeapMiB <= 0 {
		o.HeapMiB = 128
	}
	s := &Server{opts: o}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "zookeeper-")
		if err != nil {
			return nil, fmt.Errorf("start ZooKeeper: %w", err)
		}
		s.opts.Dir, s.tempDir = dir, true
	}
	// Between choosing a free port and the server's using it somebody else may
	// have taken it.
	var err error
	for range 3 {
		if s.port, err = freePort(); err == nil {
			if err = s.Start(ctx); err == nil {
				return s, nil
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(err, s.Close())
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr is the "host:port" for clients. It stays the same over restarts.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is zk://host:port followed by the prefix, e.g. "/pacer".
func (s *Server) URL(prefix string) string { return "zk://" + s.Addr() + prefix }

// Dir is where configuration, data and the server's output are.
func (s *Server) Dir() string { return s.opts.Dir }

// Start starts a stopped server again, with the same port and data, and
// returns when it answers. A running one is left alone.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil
	}
	config := filepath.Join(s.opts.Dir, "zoo.cfg")
	if err := os.WriteFile(config, []byte(s.config()), 0o644); err != nil {
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(s.opts.Dir, "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	defer out.Close()
	var cp []string
	for _, jar := range jars {
		cp = append(cp, filepath.Join(jarDir, jar))
	}
	cmd := exec.Command("java",
		// Most of the start is the JVM's: less optimisation starts sooner.
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
		"-Xmx"+strconv.Itoa(s.opts.HeapMiB)+"m",
		"-Dzookeeper.jmx.log4j.disable=true", "-Dzookeeper.forceSync="+yesNo(s.opts.Fsync),
		"-cp", strings.Join(cp, ":"),
		"org.apache.zookeeper.server.ZooKeeperServerMain", config)
	cmd.Dir = s.opts.Dir
	cmd.Stdout, cmd.Stderr = out, out
	// The server must not outlive a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	done := make(chan struct{})
	started := make(chan error, 1)
	go startAndWait(cmd, started, done)
	if err := <-started; err != nil {
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	s.cmd, s.done = cmd, done
	if err := s.awaitReady(ctx); err != nil {
		s.stopLocked(syscall.SIGKILL)
		return fmt.Errorf("start ZooKeeper: %w\n%s", err, s.output())
	}
	return nil
}

func (s *Server) config() string {
	return fmt.Sprintf(`tickTime=%d
dataDir=%s
clientPort=%d
clientPortAddress=127.0.0.1
minSessionTimeout=%d
maxSessionTimeout=%d
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=ruok,srvr,cons,dump,mntr
extendedTypesEnabled=true
`, s.opts.Tick.Milliseconds(), filepath.Join(s.opts.Dir, "data"), s.port,
		2*s.opts.Tick.Milliseconds(), s.opts.MaxSession.Milliseconds())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// awaitReady asks "srvr", which unlike "ruok" is only answered when the server
// serves.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// A question that comes too early may never be answered.
		ask, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		answer, err := s.Ask(ask, "srvr")
		cancel()
		if err == nil && strings.Contains(answer, "Mode:") {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}

// Ask sends a four-letter command (ruok, srvr, cons, dump, mntr) and returns
// the answer.
func (s *Server) Ask(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, command); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Stop ends the server as an operator does (SIGTERM) and returns when it has
// ended. Its data stay for [Server.Start].
func (s *Server) Stop() { s.stop(syscall.SIGTERM) }

// Kill ends the server like a crash (SIGKILL) and returns when it has ended.
func (s *Server) Kill() { s.stop(syscall.SIGKILL) }

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	s.Stop()
	return s.Start(ctx)
}

// Pause freezes the server: connections stay open and nothing is answered.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("ZooKeeper is not running")
	}
	return s.cmd.Process.Signal(sig)
}

func (s *Server) stop(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked(sig)
}

func (s *Server) stopLocked(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	s.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd, s.done = nil, nil
}

// Close kills the server and removes what [Run] made.
func (s *Server) Close() error {
	s.Kill()
	if s.tempDir {
		return os.RemoveAll(s.opts.Dir)
	}
	return nil
}

func (s *Server) output() []byte {
	data, _ := os.ReadFile(filepath.Join(s.opts.Dir, "output"))
	return bytes.TrimSpace(data[max(0, len(data)-2000):])
}

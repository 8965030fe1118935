package hashicorp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulOptions of a server. The zero value has all defaults.
type ConsulOptions struct {
	// Dir holds data and log; it must exist.
	Dir string
	// Settings are added to the server's configuration file, e.g. "acl".
	Settings map[string]any
}

// Consul is a server that is its own agent. What it knows is on disk and
// outlives [Consul.Stop], unless [Consul.Forget] is called.
type Consul struct {
	// Address is the URL of its HTTP API. It stays the same over restarts.
	Address string
	// Client is a client without a token.
	Client *api.Client

	binary string
	opts   ConsulOptions

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// StartConsul starts a server of the test's own and returns when it has a
// leader. It ends with the test, which is skipped where it cannot be built.
func StartConsul(t testing.TB, o ConsulOptions) *Consul {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := RunConsul(context.Background(), o)
	skipIfMissing(t, err)
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("consul.log ends with:\n%s", c.log())
		}
	})
	return c
}

// RunConsul starts a server and returns when it has a leader. Close it.
func RunConsul(ctx context.Context, o ConsulOptions) (*Consul, error) {
	binary, err := Build(ctx, ConsulServer, os.Stderr)
	if err != nil {
		return nil, err
	}
	c := &Consul{binary: binary, opts: o}
	// Between the choice of free ports and their use, others may take them.
	for range 3 {
		if err = c.configure(); err == nil {
			if err = c.Start(ctx); err == nil {
				return c, nil
			}
		}
		if ctx.Err() != nil {
			break
		}
		c.Close()
	}
	return nil, fmt.Errorf("start Consul: %w", err)
}

// configure chooses ports and writes the configuration.
func (c *Consul) configure() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	settings := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "agent",
		"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"data_dir": filepath.Join(c.opts.Dir, "data"), "log_level": "info",
		"ports":       map[string]int{"http": ports[0], "server": ports[1], "serf_lan": ports[2], "serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "https": -1},
		"performance": map[string]int{"raft_multiplier": 1},
		"telemetry":   map[string]any{"disable_hostname": true}, "disable_update_check": true,
		"leave_on_terminate": false, "skip_leave_on_interrupt": true,
		"connect": map[string]bool{"enabled": false},
	}
	for name, value := range c.opts.Settings {
		settings[name] = value
	}
	data, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("consul.json"), data, 0o600); err != nil {
		return err
	}
	c.Address = "http://127.0.0.1:" + strconv.Itoa(ports[0])
	c.Client, err = api.NewClient(&api.Config{Address: c.Address, HttpClient: &http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	}})
	return err
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (c *Consul) file(name string) string { return filepath.Join(c.opts.Dir, name) }

func (c *Consul) log() []byte {
	data, _ := os.ReadFile(c.file("consul.log"))
	return tail(data, 3000)
}

// Start starts a stopped server again, with the same ports and data, and
// returns when it accepts writes. A running one is left alone.
func (c *Consul) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(c.file("consul.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.binary, "agent", "-config-file", c.file("consul.json"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.opts.Dir}
	// The server must not outlive a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// Linux sends the death signal when the thread that started the process
		// ends, and the Go runtime ends threads.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// How it ended is in its log.
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.cmd, c.ended = cmd, ended
	if err := c.awaitLeader(ctx, ended); err != nil {
		c.stopLocked(syscall.SIGKILL)
		return fmt.Errorf("%w\n%s", err, c.log())
	}
	return nil
}

// awaitLeader returns when the catalog lists the server itself.
func (c *Consul) awaitLeader(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		leader, err := c.Client.Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
		if err == nil && leader != "" {
			nodes, _, err := c.Client.Catalog().Nodes(new(api.QueryOptions).WithContext(ctx))
			// Where ACLs are on, nobody without a token sees nodes.
			if err == nil && (len(nodes) > 0 || c.opts.Settings["acl"] != nil) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("no leader: %w", ctx.Err())
		}
	}
}

// Stop ends the server as a crash would and returns when it has ended. Its
// data stay for [Consul.Start].
func (c *Consul) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked(syscall.SIGKILL)
}

// Forget removes what a stopped server knows, as where data are not kept.
func (c *Consul) Forget() error { return os.RemoveAll(c.file("data")) }

// Pause freezes the server: connections stay, nothing answers.
func (c *Consul) Pause() error {
	if err := c.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// Its threads stop one by one.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if running, err := c.runningThreads(); err != nil || running == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("Consul does not stop at SIGSTOP")
		}
	}
}

func (c *Consul) runningThreads() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0, errors.New("Consul is not running")
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	running := 0
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		// The state follows the name, which is in parentheses.
		if i := bytes.LastIndexByte(stat, ')'); i < 0 || i+2 >= len(stat) || stat[i+2] != 'T' {
			running++
		}
	}
	return running, nil
}

// Resume ends Pause.
func (c *Consul) Resume() error { return c.signal(syscall.SIGCONT) }

func (c *Consul) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return errors.New("Consul is not running")
	}
	return c.cmd.Process.Signal(sig)
}

func (c *Consul) stopLocked(sig syscall.Signal) {
	if c.cmd == nil {
		return
	}
	// It may have ended already.
	_ = c.cmd.Process.Signal(sig)
	<-c.ended
	c.cmd, c.ended = nil, nil
}

// Close ends the server.
func (c *Consul) Close() { c.Stop() }

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// containerSpec is what a container is started from.
type containerSpec struct {
	ID          string
	Directory   string // sandbox and working directory
	RuntimeDir  string // where the helper writes the exit status
	Shell       bool
	Value       string
	Arguments   []string
	Environment []string
	User        *account // nil: the agent's own
	UserName    string
	Cgroups     []string // the container's own, one per hierarchy
	Enter       []string // those of them, or below them, that the helper enters
	URIs        []fetchItem
}

// container is a running helper. Helpers outlive the Agent that started them, so
// they belong to the process, in helpers.
type container struct {
	id      string
	pid     int
	runtime string
	cgroups []string
	done    chan struct{} // closed when the helper has ended
	exit    syscall.WaitStatus
	known   bool // exit is known: the helper was our child
}

// helpers are those that are children of this process, by container id. Each
// has a goroutine that reaps it; WaitContainers waits for them.
var helpers = struct {
	sync.Mutex
	containers map[string]*container
	reapers    sync.WaitGroup
}{containers: make(map[string]*container)}

// WaitContainers waits until every executor that any Agent of this process has
// started is gone, with kill after having killed them. Tests and programs call it
// last: executors outlive a killed Agent.
func WaitContainers(kill bool) {
	if kill {
		helpers.Lock()
		list := make([]*container, 0, len(helpers.containers))
		for _, c := range helpers.containers {
			list = append(list, c)
		}
		helpers.Unlock()
		for _, c := range list {
			c.destroy()
		}
	}
	helpers.reapers.Wait()
}

// DestroyContainers kills every executor that an Agent of this process has started
// with this configuration, dead or alive as it may be, and waits for their ends: what
// the loss of the machine does, where the agent itself is to be killed before.
func DestroyContainers(config Config) {
	below := config.withDerived().RuntimeDir + string(filepath.Separator)
	helpers.Lock()
	var list []*container
	for _, c := range helpers.containers {
		if strings.HasPrefix(c.runtime, below) {
			list = append(list, c)
		}
	}
	helpers.Unlock()
	for _, c := range list {
		c.destroy()
		<-c.done
	}
}

// helperInput is what a helper reads from its file descriptor 3.
type helperInput struct {
	Launch *launchInput `json:"launch,omitempty"`
	Fetch  *fetchInput  `json:"fetch,omitempty"`
}

// helperCommand prepares this program as a helper of a kind, in a session of its
// own, with its output appended to the sandbox's files.
func helperCommand(kind string, spec containerSpec, input helperInput) (cmd *exec.Cmd, closeFiles func(), err error) {
	var files []*os.File
	closeFiles = func() {
		for _, f := range files {
			f.Close()
		}
	}
	defer func() {
		if err != nil {
			closeFiles()
		}
	}()
	cmd = exec.Command("/proc/self/exe")
	cmd.Args = []string{helperName, kind}
	cmd.Dir = spec.Directory
	cmd.Env = []string{"PATH=" + defaultPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, name := range []string{"stdout", "stderr"} {
		path := filepath.Join(spec.Directory, name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, closeFiles, err
		}
		files = append(files, f)
		if spec.User != nil {
			if err := f.Chown(int(spec.User.uid), int(spec.User.gid)); err != nil {
				return nil, closeFiles, err
			}
		}
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	text, err := json.Marshal(input)
	if err != nil {
		return nil, closeFiles, err
	}
	// A file without a name: larger than a pipe's buffer may be, and not visible to
	// others as arguments and environment are.
	config, err := os.CreateTemp("", "mesos-containerizer-")
	if err != nil {
		return nil, closeFiles, err
	}
	files = append(files, config)
	if err := os.Remove(config.Name()); err != nil {
		return nil, closeFiles, err
	}
	if _, err := config.Write(text); err != nil {
		return nil, closeFiles, err
	}
	if _, err := config.Seek(0, 0); err != nil {
		return nil, closeFiles, err
	}
	cmd.ExtraFiles = []*os.File{config}
	return cmd, closeFiles, nil
}

// startContainer starts a helper, which starts the executor.
func startContainer(spec containerSpec) (*container, error) {
	if err := os.MkdirAll(spec.RuntimeDir, 0o755); err != nil {
		return nil, err
	}
	cmd, closeFiles, err := helperCommand("launch", spec, helperInput{Launch: &launchInput{
		Shell: spec.Shell, Value: spec.Value, Arguments: spec.Arguments, Environment: spec.Environment,
		User: spec.User.credential(), StatusFile: filepath.Join(spec.RuntimeDir, "status"), Cgroups: spec.Enter,
	}})
	if err != nil {
		return nil, err
	}
	defer closeFiles()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// The helper enters by itself before it starts the executor; doing it here as
	// well makes sure that a container destroyed at once is found.
	for _, directory := range spec.Enter {
		if err := os.WriteFile(filepath.Join(directory, "cgroup.procs"), strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0); err != nil {
			return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
		}
	}
	c := &container{id: spec.ID, pid: cmd.Process.Pid, runtime: spec.RuntimeDir, cgroups: spec.Cgroups, done: make(chan struct{})}
	helpers.Lock()
	helpers.containers[c.id] = c
	helpers.Unlock()
	helpers.reapers.Go(func() {
		// The error is the exit status once more.
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
			c.exit, c.known = status, true
		}
		helpers.Lock()
		delete(helpers.containers, c.id)
		helpers.Unlock()
		close(c.done)
	})
	return c, nil
}

// adoptContainer takes over a helper that an earlier life of the agent started,
// perhaps in another process. It returns nil when there is none any more.
func (a *Agent) adoptContainer(id string, pid int, started string, runtimeDir string, cgroups []string) *container {
	helpers.Lock()
	c := helpers.containers[id]
	helpers.Unlock()
	if c != nil {
		return c
	}
	c = &container{id: id, pid: pid, runtime: runtimeDir, cgroups: cgroups, done: make(chan struct{})}
	if pid <= 0 || startTime(pid) != started {
		close(c.done)
		return c
	}
	// Not a child of this process: nothing but looking tells when it ends.
	a.wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for startTime(pid) == started {
			select {
			case <-tick.C:
			case <-a.ctx.Done():
				return
			}
		}
		close(c.done)
	})
	return c
}

// status is the raw wait status of the executor as its helper wrote it down, or
// the helper's own when it was killed first, or -1. Call it after done.
func (c *container) status() int32 {
	text, err := os.ReadFile(filepath.Join(c.runtime, "status"))
	if err == nil {
		if v, err := strconv.ParseInt(string(text), 10, 32); err == nil {
			return int32(v)
		}
	}
	if c.known {
		return int32(c.exit)
	}
	return -1
}

// account is a Unix user.
type account struct {
	uid, gid uint32
	groups   []uint32
}

func (u *account) credential() *credential {
	if u == nil {
		return nil
	}
	return &credential{UID: u.uid, GID: u.gid, Groups: u.groups}
}

// errNoUser has Mesos' wording.
type errNoUser string

func (e errNoUser) Error() string { return fmt.Sprintf("No such user '%s'", string(e)) }

func asUint32(text string) (uint32, error) {
	v, err := strconv.ParseUint(text, 10, 32)
	return uint32(v), err
}

// startTime is a process' start in clock ticks since boot, which together with
// the pid names it for good; "" when there is no such process or it is a zombie.
func startTime(pid int) string {
	p, err := readProcess(pid)
	if err != nil || p.state == 'Z' || p.state == 'X' {
		return ""
	}
	return p.started
}

var errNoProcess = errors.New("no such process")

package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The executor of the recordings is a program called probe that does what the player
// tells it over a TCP connection. Here it is this test binary under another name.
const probeName = "probe"

// probeFiles are the file descriptors of the process before it has opened any. The
// initialisation of this package is as early as it gets.
var probeFiles = describeFiles()

// isProbe tells whether this process was started as an executor.
func isProbe(args []string) bool {
	return len(args) == 3 && strings.HasSuffix(filepath.Base(args[0]), probeName) && args[1] == "exec"
}

// order is what the player tells an executor.
type order struct {
	ID      int              // of the exchange or the command
	Request *exchangeRequest `json:",omitempty"`
	Close   bool             // end the exchange
	Command string           // for sh
	Exit    *int             // end the process with this code
	Die     bool             // end the process with SIGKILL
}

// message is what an executor tells the player.
type message struct {
	ID     int
	Hello  map[string]any `json:",omitempty"` // once, first
	Item   *exchangeItem  `json:",omitempty"`
	Output *string        `json:",omitempty"` // of a command
}

// isEater tells whether this process was started to use up memory.
func isEater(args []string) bool {
	return len(args) == 3 && filepath.Base(args[0]) == probeName && args[1] == "eat"
}

// runEater uses as many MB of memory as it is told, for a minute.
func runEater(megabytes string) int {
	n, err := strconv.Atoi(megabytes)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	memory := make([]byte, n<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	time.Sleep(time.Minute)
	return int(memory[0]) - 1
}

// runProbe is the life of an executor. It ends with its connection to the player.
func runProbe(address string) int {
	hello := describeProcess()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var mu sync.Mutex
	out := json.NewEncoder(connection)
	send := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(m) // when the player is gone, the loop below ends
	}
	send(message{Hello: hello})
	running := make(map[int]context.CancelFunc)
	for in := json.NewDecoder(connection); ; {
		var o order
		if err := in.Decode(&o); err != nil {
			return 0
		}
		switch {
		case o.Request != nil:
			ctx, cancel := context.WithCancel(context.Background())
			running[o.ID] = cancel
			go exchange(ctx, *o.Request, func(item exchangeItem) { send(message{ID: o.ID, Item: &item}) })
		case o.Close:
			running[o.ID]()
		case o.Command != "":
			output, err := exec.Command("/bin/sh", "-c", o.Command).CombinedOutput()
			text := string(output)
			if err != nil {
				text += err.Error()
			}
			send(message{ID: o.ID, Output: &text})
		case o.Exit != nil:
			return *o.Exit
		case o.Die:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}

// describeProcess tells what recordings show of an executor's process.
func describeProcess() map[string]any {
	pid, parent := os.Getpid(), os.Getppid()
	cwd, _ := os.Getwd()
	exe, _ := os.Readlink("/proc/self/exe")
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	group, _ := syscall.Getpgid(pid)
	parentGroup, _ := syscall.Getpgid(parent)
	environment := zeroTerminated("/proc/self/environ")
	slices.Sort(environment)
	description := map[string]any{
		"agent_id":                 os.Getenv("MESOS_SLAVE_ID"),
		"executor_id":              os.Getenv("MESOS_EXECUTOR_ID"),
		"framework_id":             os.Getenv("MESOS_FRAMEWORK_ID"),
		"endpoint":                 os.Getenv("MESOS_AGENT_ENDPOINT"),
		"argv":                     zeroTerminated("/proc/self/cmdline"),
		"env":                      environment,
		"cgroup":                   textLines("/proc/self/cgroup"),
		"cwd":                      cwd,
		"exe":                      exe,
		"fds":                      probeFiles,
		"uid":                      os.Getuid(),
		"gid":                      os.Getgid(),
		"umask":                    fmt.Sprintf("%04o", mask),
		"nofile_hard":              limit.Max,
		"pid":                      pid,
		"ppid":                     parent,
		"is_group_leader":          group == pid,
		"is_session_leader":        session(pid) == pid,
		"parent_argv":              zeroTerminated(fmt.Sprintf("/proc/%d/cmdline", parent)),
		"parent_is_group_leader":   parentGroup == parent,
		"parent_is_session_leader": session(parent) == parent,
		"signals":                  signals(),
	}
	if info, err := os.Stat(cwd); err == nil {
		description["sandbox_mode"] = fmt.Sprintf("%04o", info.Mode().Perm())
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			description["sandbox_uid"] = stat.Uid
		}
	}
	files := []string{}
	entries, _ := os.ReadDir(cwd)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			files = append(files, info.Mode().String()+" "+entry.Name())
		}
	}
	description["sandbox_files"] = files
	return description
}

func describeFiles() map[string]string {
	files := make(map[string]string)
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		// The directory itself is closed by now. What tells how many processors and
		// events there are is of Go's runtime.
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && !strings.HasPrefix(target, "/sys/fs/cgroup/") && !strings.HasPrefix(target, "anon_inode:") {
			files[entry.Name()] = target
		}
	}
	return files
}

// session is the id of a process' session.
func session(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ") // the name may contain spaces
	fields := strings.Fields(rest)
	if len(fields) < 4 {
		return 0
	}
	id, _ := strconv.Atoi(fields[3])
	return id
}

func signals() map[string]string {
	found := make(map[string]string)
	for _, text := range textLines("/proc/self/status") {
		name, value, _ := strings.Cut(text, ":\t")
		switch name {
		case "CapEff", "NoNewPrivs", "SigBlk", "SigIgn":
			found[name] = value
		}
	}
	return found
}

func textLines(path string) []string {
	text, _ := os.ReadFile(path)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func zeroTerminated(path string) []string {
	text, _ := os.ReadFile(path)
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

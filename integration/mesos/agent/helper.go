package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// helperName is the helper's argv[0]; argv[1] says which kind it is.
const helperName = "mesos-containerizer"

// defaultPath is what an executor gets whose environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// statusCannotExec is the wait status recorded for a program that cannot be executed.
const statusCannotExec = 256256

// credential is the user that a helper's child runs as.
type credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
}

func (c *credential) sys() *syscall.Credential {
	if c == nil {
		return nil
	}
	return &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
}

// launchInput tells a launch helper what to do.
type launchInput struct {
	Shell       bool        `json:"shell"`
	Value       string      `json:"value"`
	Arguments   []string    `json:"arguments"`
	Environment []string    `json:"environment"`
	User        *credential `json:"user"`
	StatusFile  string      `json:"status_file"`
	Cgroups     []string    `json:"cgroups"`
}

// A program that was started as a helper does its work here and never gets further.
// It happens during initialisation so that neither main nor the tests of the
// program that contains this package can run a second time; the check is for an
// argv[0] that nobody else uses.
func init() {
	if len(os.Args) != 2 || os.Args[0] != helperName {
		return
	}
	os.Exit(runHelper(os.Args[1]))
}

func runHelper(kind string) int {
	input, err := readHelperInput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", helperName, kind, err)
		return 1
	}
	switch {
	case kind == "launch" && input.Launch != nil:
		return runLaunch(*input.Launch)
	case kind == "fetch" && input.Fetch != nil:
		return runFetch(*input.Fetch)
	}
	fmt.Fprintf(os.Stderr, "%s: no kind of helper is called %q\n", helperName, kind)
	return 1
}

func readHelperInput() (helperInput, error) {
	var input helperInput
	file := os.NewFile(3, "input")
	if file == nil {
		return input, fmt.Errorf("file descriptor 3 is not open")
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return input, fmt.Errorf("read input: %w", err)
	}
	return input, json.Unmarshal(text, &input)
}

// runLaunch starts the executor, forwards signals to it, reaps whatever becomes the
// helper's child and writes down the executor's raw wait status.
func runLaunch(input launchInput) int {
	// mesos-containerizer runs with this umask, and the executor inherits it.
	syscall.Umask(0o022)
	for _, directory := range input.Cgroups {
		if err := os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte("0"), 0); err != nil {
			fmt.Fprintf(os.Stderr, "Failed to enter cgroup: %v\n", err)
			return 1
		}
	}
	signals := make(chan os.Signal, 16) // a burst; more of the same kind adds nothing
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)

	closeOnExec()
	path, argv := input.program()
	child, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   input.Environment,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Credential: input.User.sys(), Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "Failed to execute '%s': %v\n", path, err)
		return writeStatus(input.StatusFile, statusCannotExec)
	}
	go func() {
		for s := range signals {
			if number, ok := s.(syscall.Signal); ok {
				_ = syscall.Kill(child, number)
			}
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "wait for the executor: %v\n", err)
			return 1
		case pid == child && (status.Exited() || status.Signaled()):
			return writeStatus(input.StatusFile, int(status))
		}
	}
}

// closeOnExec keeps from the executor what the agent's process had inherited itself.
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// program is what is executed. A name without a slash is searched in the
// executor's own PATH; argv is as it was given, even when it is empty.
func (l launchInput) program() (path string, argv []string) {
	if l.Shell {
		return "/bin/sh", []string{"sh", "-c", l.Value}
	}
	if strings.Contains(l.Value, "/") {
		return l.Value, l.Arguments
	}
	for _, variable := range l.Environment {
		list, found := strings.CutPrefix(variable, "PATH=")
		if !found {
			continue
		}
		for _, directory := range filepath.SplitList(list) {
			candidate := filepath.Join(directory, l.Value)
			if info, err := os.Stat(candidate); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
				return candidate, l.Arguments
			}
		}
	}
	return l.Value, l.Arguments
}

func writeStatus(file string, status int) int {
	if err := replaceFile(file, []byte(strconv.Itoa(status))); err != nil {
		fmt.Fprintf(os.Stderr, "write exit status: %v\n", err)
		return 1
	}
	return 0
}

package zookeeper

import (
	"os/exec"
	"runtime"
)

// startAndWait starts and reaps the process from one locked thread: Linux
// sends the death signal when the thread that started the process ends, and
// the Go runtime ends threads.
func startAndWait(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(done)
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
	}
}

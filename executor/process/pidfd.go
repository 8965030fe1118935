package process

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

var pidfdAvailable = sync.OnceValue(func() bool {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
})

// signalIf sends sig to pid if same, asked after the process is pinned by a
// pidfd, says that pid still is the process meant. A process that is gone is no
// error.
func signalIf(pid int, sig unix.Signal, same func() bool) error {
	if pid <= 1 || pid == unix.Getpid() {
		return fmt.Errorf("signal process %d: refused", pid)
	}
	if !pidfdAvailable() {
		// What is left of the race is the time between these two lines, in
		// which the process would have to be reaped and its id used again.
		if !same() {
			return nil
		}
		return ignoreGone(unix.Kill(pid, sig))
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	if !same() {
		return nil
	}
	return ignoreGone(unix.PidfdSendSignal(fd, sig, nil, 0))
}

// ignoreGone drops the error of signalling a process that has ended. EINVAL is
// pidfd_open's answer for the id of a thread that is no process.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

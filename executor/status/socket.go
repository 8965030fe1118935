package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SocketName is the name of the socket in a sandbox.
const SocketName = "pacer.sock"

// directory is a sandbox. Its path is longer than the 107 bytes that a socket's
// address may have; relative to an open descriptor it is short, and unlike
// chdir(2) that is no matter of the whole process.
type directory struct{ file *os.File }

func openDirectory(path string) (*directory, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	return &directory{os.NewFile(uintptr(fd), path)}, nil
}

func (d *directory) socket() string {
	return "/proc/self/fd/" + strconv.Itoa(int(d.file.Fd())) + "/" + SocketName
}

func (d *directory) close() error { return d.file.Close() }

// listen makes the socket, for this user and root only.
func (d *directory) listen() (net.Listener, error) {
	if info, err := os.Lstat(d.socket()); err == nil && info.Mode().Type() == fs.ModeSocket {
		// It is left from an earlier life: a sandbox has one executor.
		if err := os.Remove(d.socket()); err != nil {
			return nil, fmt.Errorf("replace the socket: %w", err)
		}
	}
	l, err := net.Listen("unix", d.socket())
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", d.file.Name(), err)
	}
	if err := os.Chmod(d.socket(), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("restrict the socket: %w", err), l.Close())
	}
	return l, nil
}

const (
	// dialTime and answerTime bound the two halves of [Read].
	dialTime   = 2 * time.Second
	answerTime = 10 * time.Second
	// maxReport is far above the report of a thousand tasks.
	maxReport = 64 << 20
)

// Read asks the executor of a sandbox for its report.
func Read(ctx context.Context, sandbox string) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	d, err := openDirectory(sandbox)
	if err != nil {
		return Report{}, err
	}
	defer d.close()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: dialTime}
			return dialer.DialContext(ctx, "unix", d.socket())
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://executor/", nil)
	if err != nil {
		return Report{}, err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Report{}, fmt.Errorf("%s has no %s: give the sandbox of a running executor, .../executors/ID/runs/latest", sandbox, SocketName)
	case errors.Is(err, unix.ECONNREFUSED):
		return Report{}, fmt.Errorf("nobody listens on %s in %s: its executor has ended", SocketName, sandbox)
	case errors.Is(err, fs.ErrPermission):
		return Report{}, fmt.Errorf("%s in %s is not for this user: ask as the executor's user or root", SocketName, sandbox)
	case err != nil:
		return Report{}, fmt.Errorf("ask the executor of %s: %w", sandbox, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Report{}, fmt.Errorf("the executor of %s answers %s", sandbox, response.Status)
	}
	var report Report
	if err := json.NewDecoder(io.LimitReader(response.Body, maxReport)).Decode(&report); err != nil {
		return Report{}, fmt.Errorf("the answer of the executor of %s: %w", sandbox, err)
	}
	return report, nil
}

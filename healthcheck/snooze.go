package healthcheck

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// SnoozeFile is the conventional name of the file in a task's folder that
// suspends the counting of failures; the package comment has its format.
const SnoozeFile = ".healthchecksnooze"

// Bounds of a snooze.
const (
	// DefaultSnooze is what an empty file means.
	DefaultSnooze = time.Hour
	// MaxSnooze is the longest that a file can suspend counting.
	MaxSnooze = 24 * time.Hour

	// maxSnoozeFile is how much of it is read.
	maxSnoozeFile = 64
)

var errSnooze = errors.New("want a duration (30m), a time (2006-01-02T15:04:05Z) or nothing")

// snoozedUntil reads a snooze file. The zero time means that there is none or
// that it has expired. The file is the task's: it may be anything.
func snoozedUntil(name string, now time.Time) (time.Time, error) {
	// Without O_NONBLOCK a pipe would hold us up.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	if !info.Mode().IsRegular() {
		return time.Time{}, errors.New("not a regular file")
	}
	text := make([]byte, maxSnoozeFile)
	n, err := io.ReadFull(f, text)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return time.Time{}, err
	}
	until, err := parseSnooze(string(text[:n]), info.ModTime())
	if err != nil {
		return time.Time{}, err
	}
	if !until.After(now) {
		return time.Time{}, nil
	}
	if last := now.Add(MaxSnooze); until.After(last) {
		until = last
	}
	return until, nil
}

func parseSnooze(text string, modified time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return modified.Add(DefaultSnooze), nil
	}
	if until, err := time.Parse(time.RFC3339, text); err == nil {
		return until, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%.20q: %w", text, errSnooze)
	}
	return modified.Add(min(d, MaxSnooze)), nil
}

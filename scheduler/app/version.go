package app

import (
	"fmt"
	"sync"
	"time"
)

// Version names one definition of an app: milliseconds since 1970, written as
// RFC 3339 in UTC with milliseconds, e.g. "2026-03-01T12:00:00.000Z". Later
// versions are larger numbers.
type Version int64

const versionLayout = "2006-01-02T15:04:05.000Z"

// String is the version as the API writes it; empty for the zero version.
func (v Version) String() string {
	if v == 0 {
		return ""
	}
	return v.Time().Format(versionLayout)
}

// Time at which the version was made.
func (v Version) Time() time.Time { return time.UnixMilli(int64(v)).UTC() }

// ParseVersion reads what [Version.String] writes, and any other RFC 3339.
func ParseVersion(s string) (Version, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.UnixMilli() <= 0 {
		return 0, fmt.Errorf("%q is not a version: expected RFC 3339 with milliseconds, e.g. 2026-03-01T12:00:00.000Z", s)
	}
	return Version(t.UnixMilli()), nil
}

// Stamper gives versions that are unique and rise, whatever the clock does.
// The zero value is ready to use, from several goroutines.
type Stamper struct {
	mu   sync.Mutex
	last Version
}

// Next is the version for now: later than every one before it.
func (s *Stamper) Next(now time.Time) Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last+1, Version(now.UnixMilli()))
	return s.last
}

// Observe makes later versions than v, which came from the store.
func (s *Stamper) Observe(v Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, v)
}

// MarshalText writes [Version.String].
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what [ParseVersion] does, and "" as zero.
func (v *Version) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*v = 0
		return nil
	}
	*v, err = ParseVersion(string(text))
	return err
}

package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what one task can make of its URIs.
type Limits struct {
	// Size of one file as fetched, in bytes.
	Size int64
	// Contents of one archive, in bytes.
	Contents int64
	// Entries of one archive.
	Entries int
	// Stall is how long a server may send nothing.
	Stall time.Duration
}

// DefaultLimits are far above what services need.
func DefaultLimits() Limits { return LimitsFor(4 << 30) }

// LimitsFor are the defaults for files of a size: an archive's contents may be
// four times as large.
func LimitsFor(size int64) Limits {
	return Limits{Size: size, Contents: 4 * size, Entries: 1_000_000, Stall: time.Minute}
}

const (
	connectTime  = 10 * time.Second
	maxRedirects = 10
)

// download opens the source. The reader fails when it stalls.
func (l Limits) download(ctx context.Context, u URI) (io.ReadCloser, error) {
	source, err := u.source()
	if err != nil {
		return nil, err
	}
	if source.Scheme == "file" {
		return openFile(source.Path)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	client := &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectTime}).DialContext,
			TLSHandshakeTimeout:   connectTime,
			ResponseHeaderTimeout: l.Stall,
			DisableKeepAlives:     true,
			// A .gz is to arrive as the file that it is.
			DisableCompression: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) >= maxRedirects:
				return fmt.Errorf("more than %d redirects", maxRedirects)
			case r.URL.Scheme != "http" && r.URL.Scheme != "https":
				return fmt.Errorf("redirected to scheme %q", r.URL.Scheme)
			}
			return nil
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, source.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, errors.New("is no URI")
	}
	response, err := client.Do(request)
	if err != nil {
		cancel(nil)
		if at := new(url.Error); errors.As(err, &at) {
			err = at.Err // It would quote the URL.
		}
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		cancel(nil)
		return nil, errors.Join(fmt.Errorf("the server answers %s", response.Status), response.Body.Close())
	}
	if n := response.ContentLength; n > l.Size {
		cancel(nil)
		return nil, errors.Join(fmt.Errorf("has %d bytes, %w", n, l.tooLarge()), response.Body.Close())
	}
	stalled := fmt.Errorf("the server has sent nothing for %v", l.Stall)
	timer := time.AfterFunc(l.Stall, func() { cancel(stalled) })
	return &body{ReadCloser: response.Body, timer: timer, stall: l.Stall, ctx: ctx, cancel: cancel}, nil
}

func (l Limits) tooLarge() error {
	return fmt.Errorf("more than the %d that are allowed", l.Size)
}

// body ends when nothing comes any more.
type body struct {
	io.ReadCloser
	timer  *time.Timer
	stall  time.Duration
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.timer.Reset(b.stall)
	}
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *body) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// openFile opens a plain file, and waits for no named pipe.
func openFile(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: name, Err: errors.New("no regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// copyChecked copies at most limit bytes and compares the sum.
func copyChecked(ctx context.Context, to io.Writer, from io.Reader, limit int64, sum string) (int64, error) {
	var digest hash.Hash = sha256.New()
	n, err := io.Copy(io.MultiWriter(to, digest), io.LimitReader(&interruptible{ctx, from}, limit+1))
	if err != nil {
		return n, err
	}
	if n > limit {
		return n, fmt.Errorf("has more than the %d bytes that are allowed", limit)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); sum != "" && got != strings.ToLower(sum) {
		return n, fmt.Errorf("has SHA-256 %s, and not %s: correct the definition, or find out who has changed the file", got, strings.ToLower(sum))
	}
	return n, nil
}

// interruptible stops reading when its context has ended.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

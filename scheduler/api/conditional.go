package api

import (
	"compress/gzip"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// appTag is the ETag of an app: its version, which is what If-Match compares,
// and behind "+" the state of its instances.
func (s *server) appTag(status *AppStatus) string {
	return `"` + status.App.Version.String() + "+" + s.life + "-" + strconv.FormatUint(status.Revision, 36) + `"`
}

// listTag is the ETag of everything that a list could show to this subject.
// It is taken before the list is read: what changes meanwhile is sent again.
func (s *server) listTag(r *http.Request) string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%d", subjectOf(r), s.access.Generation())
	return `"` + s.life + "-" + strconv.FormatUint(s.backend.Revision(), 36) + "-" + strconv.FormatUint(h.Sum64(), 36) + `"`
}

// unchanged answers 304 if the client has what this tag is of.
func (s *server) unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	w.Header().Set("ETag", tag)
	for have := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
		if have == tag || have == "*" {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// minCompressed is the size from which on replies are compressed, in bytes.
const minCompressed = 1400

// compressors are kept because each holds tables of several hundred KiB.
var compressors = sync.Pool{New: func() any {
	// The level is valid, so there is no error.
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return w
}}

// compressing compresses a reply of JSON if the client takes that and the
// first part that is written is large.
type compressing struct {
	http.ResponseWriter
	code int
	gzip *gzip.Writer
	told bool // the header has been sent
}

func acceptsGzip(r *http.Request) bool {
	for encoding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(encoding), ";")
		if name == "gzip" || name == "*" {
			q := strings.ReplaceAll(quality, " ", "")
			return q != "q=0" && !strings.HasPrefix(q, "q=0.000")
		}
	}
	return false
}

func (w *compressing) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *compressing) Write(p []byte) (int, error) {
	if !w.told {
		w.tell(len(p))
	}
	if w.gzip != nil {
		return w.gzip.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

// tell sends the header, when the size of the first part is known.
func (w *compressing) tell(size int) {
	w.told = true
	header := w.Header()
	header.Add("Vary", "Accept-Encoding")
	if size >= minCompressed && header.Get("Content-Type") == "application/json" {
		header.Set("Content-Encoding", "gzip")
		// The bytes are not those that the tag was made for.
		if tag := header.Get("ETag"); strings.HasPrefix(tag, `"`) {
			header.Set("ETag", "W/"+tag)
		}
		w.gzip = compressors.Get().(*gzip.Writer)
		w.gzip.Reset(w.ResponseWriter)
	}
	if w.code == 0 {
		w.code = http.StatusOK
	}
	w.ResponseWriter.WriteHeader(w.code)
}

// finish sends what is left. A reply that was cut short is not completed.
func (w *compressing) finish() {
	if !w.told && w.code != 0 {
		w.tell(0)
	}
	if w.gzip != nil {
		_ = w.gzip.Close()
		w.recycle()
	}
}

func (w *compressing) recycle() {
	if w.gzip != nil {
		w.gzip.Reset(nil)
		compressors.Put(w.gzip)
		w.gzip = nil
	}
}

// Unwrap is for http.ResponseController.
func (w *compressing) Unwrap() http.ResponseWriter { return w.ResponseWriter }

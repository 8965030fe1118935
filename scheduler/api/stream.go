package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"pacer/scheduler/app"
)

const (
	// keepAlive is after how long without an event a line is sent, so that
	// readers and proxies see that the stream lives.
	keepAlive = 15 * time.Second
	// streamPause is the least time between two writes to one reader: many
	// events at once cost one write.
	streamPause = 10 * time.Millisecond
	// streamDeadline is how long a reader may take for what is written at
	// once.
	streamDeadline = 10 * time.Second
	// streamBatch is how many events are taken at once.
	streamBatch = 500
)

// streamFilter is what a reader wants to see, and may.
type streamFilter struct {
	types   []string // empty means all
	apps    []string // paths of apps or of groups; empty means all
	allowed func(appID string) bool
}

func (f streamFilter) match(e *event) bool {
	if len(f.types) > 0 && !slices.Contains(f.types, e.kind) {
		return false
	}
	if e.apps == nil {
		return f.matchApp(e.app)
	}
	return slices.ContainsFunc(e.apps, f.matchApp)
}

func (f streamFilter) matchApp(id string) bool {
	if !f.allowed(id) {
		return false
	}
	return len(f.apps) == 0 || slices.ContainsFunc(f.apps, func(path string) bool { return below(id, path) })
}

// below tells whether path is id itself or a group that it is in.
func below(id, path string) bool {
	return path == "/" || id == path || strings.HasPrefix(id, path+"/")
}

// stream serves events until the client goes, falls behind, or the scheduler
// ends. It has no deadline as a whole.
func (s *server) stream(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	filter := streamFilter{types: query["event_type"], allowed: s.mayView(r)}
	for _, path := range query["app"] {
		filter.apps = append(filter.apps, app.CanonicalID(path))
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		return refuse(http.StatusServiceUnavailable, "There are %d readers of events already; try again later", maxStreams)
	}
	defer s.streams.Add(-1)

	events := s.backend.Events()
	next, resumed := events.position(r.Header.Get("Last-Event-ID"))
	out := http.NewResponseController(w)
	// The server's deadlines are for requests, not for streams.
	if err := out.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Accel-Buffering", "no")
	send := func(data []byte) bool {
		if out.SetWriteDeadline(time.Now().Add(streamDeadline)) != nil {
			return false
		}
		if _, err := w.Write(data); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	if !send(events.notice(EventStreamAttached, clientIP(r), resumed, "")) {
		return nil
	}
	var buffer []byte
	sent := time.Now()
	for r.Context().Err() == nil {
		batch, missed, closed := events.take(next, streamBatch)
		buffer = buffer[:0]
		for i := range batch {
			if filter.match(&batch[i]) {
				buffer = append(buffer, batch[i].frame...)
			}
		}
		next += uint64(len(batch))
		switch {
		case missed > 0:
			send(events.notice(EventStreamDetached, clientIP(r), false, "the reader was too slow: events were lost; read the state anew and connect again"))
			return nil
		case closed:
			send(append(buffer, events.notice(EventStreamDetached, clientIP(r), false, "this scheduler ends")...))
			return nil
		case len(buffer) == 0 && time.Since(sent) >= keepAlive:
			buffer = append(buffer, '\n')
		}
		if len(buffer) > 0 {
			if !send(buffer) {
				return nil
			}
			sent = time.Now()
		}
		if len(batch) == streamBatch {
			continue
		}
		events.wait(r.Context(), next, keepAlive-time.Since(sent))
		pause(r, streamPause-time.Since(sent))
	}
	return nil
}

// pause waits, unless the client goes.
func pause(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// notice is an event about one stream, which has no number.
func (e *Events) notice(kind, client string, resumed bool, reason string) []byte {
	b := append([]byte("event: "), kind...)
	b = append(b, "\ndata: {\"remoteAddress\":"...)
	b = appendString(b, client)
	if kind == EventStreamAttached {
		b = append(b, `,"resumed":`...)
		if resumed {
			b = append(b, "true"...)
		} else {
			b = append(b, "false"...)
		}
	}
	if reason != "" {
		b = appendMember(b, "reason", reason)
	}
	b = appendMember(b, "eventType", kind)
	b = appendTime(b, "timestamp", e.now())
	return append(b, "}\n\n"...)
}

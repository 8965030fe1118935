package wire

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

// ErrAborted is what Serve returns after Abort.
var ErrAborted = errors.New("stream aborted")

// manyRecords is how many records may wait before they share chunks, whose ends then
// mean nothing.
const manyRecords = 16

// Stream is the server's end of an event stream. Sending never blocks: events
// wait in memory until the connection takes them, as in libprocess. It is made
// before the response starts, so that events can be queued by whoever owns the
// subscription while the handler is on its way into Serve.
type Stream struct {
	contentType ContentType

	mu      sync.Mutex
	queue   [][]byte
	wake    chan struct{} // has room for one: a wake-up that is pending is enough
	ending  bool          // Close: no more events, write what is queued
	over    bool          // nothing will be written any more
	aborted chan struct{} // closed by Abort
	frozen  bool
	stall   func() // makes a write in progress return; nil outside Serve
}

// NewStream makes a stream of records in one content type.
func NewStream(contentType ContentType) *Stream {
	return &Stream{
		contentType: contentType,
		wake:        make(chan struct{}, 1),
		aborted:     make(chan struct{}),
	}
}

// ContentType is the representation of the stream's records.
func (s *Stream) ContentType() ContentType { return s.contentType }

// Send queues an event. Events for a stream that has ended, or whose peer is gone,
// are lost without an error.
func (s *Stream) Send(event Message) error {
	payload, err := s.contentType.Marshal(event)
	if err != nil {
		return err
	}
	s.SendRecord(payload)
	return nil
}

// SendRecord queues an event that is already rendered in the stream's content type.
func (s *Stream) SendRecord(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending || s.over || s.frozen {
		return
	}
	s.queue = append(s.queue, payload)
	s.wakeLocked()
}

// Close ends the stream after the queued events, with a terminating chunk.
func (s *Stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.wakeLocked()
}

// Abort ends the stream at once and without a terminating chunk, as the death of
// the process would.
func (s *Stream) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.aborted:
		return
	default:
	}
	close(s.aborted)
	s.over, s.queue = true, nil
	if s.stall != nil {
		s.stall()
	}
}

// Freeze drops every event from now on while the connection stays open, as a
// network that swallows packets does. Close and Abort still end it.
func (s *Stream) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.queue = true, nil
}

func (s *Stream) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Serve answers 200 and writes events, each record flushed by itself unless more than
// a few wait, until Close
// (nil), Abort (ErrAborted: the handler has to panic with http.ErrAbortHandler so
// that no terminating chunk is written) or the loss of the peer (another error).
// Headers beside Content-Type are set by the caller before.
func (s *Stream) Serve(w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	s.mu.Lock()
	s.stall = func() { _ = control.SetWriteDeadline(time.Unix(1, 0)) }
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stall, s.over, s.queue = nil, true, nil
	}()

	w.Header().Set("Content-Type", string(s.contentType))
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return s.reason(err)
	}
	var record []byte
	for {
		s.mu.Lock()
		batch, ending := s.queue, s.ending
		s.queue = nil
		s.mu.Unlock()
		for i, payload := range batch {
			select {
			case <-s.aborted:
				return ErrAborted
			default:
			}
			record = AppendRecord(record[:0], payload)
			if _, err := w.Write(record); err != nil {
				return s.reason(err)
			}
			// A chunk per record, as in Mesos, but not a system call for each of many.
			if len(batch) > manyRecords && i < len(batch)-1 {
				continue
			}
			if err := control.Flush(); err != nil {
				return s.reason(err)
			}
		}
		if len(batch) > 0 {
			continue
		}
		if ending {
			return nil
		}
		if cap(record) > 1<<20 {
			record = nil
		}
		select {
		case <-s.wake:
		case <-s.aborted:
			return ErrAborted
		case <-r.Context().Done():
			return s.reason(r.Context().Err())
		}
	}
}

// reason prefers the abort to the write error that it causes.
func (s *Stream) reason(err error) error {
	select {
	case <-s.aborted:
		return ErrAborted
	default:
		return err
	}
}

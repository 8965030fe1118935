package mesosapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Stream is the answer to a SUBSCRIBE. Next is called by one goroutine, the
// other methods may be called by any.
type Stream struct {
	// ID is the master's Mesos-Stream-Id, to be sent with every call; agents
	// have none.
	ID string

	ctx     context.Context
	cancel  context.CancelCauseFunc
	body    io.ReadCloser
	records *RecordReader

	mu    sync.Mutex
	limit time.Duration
	idle  *time.Timer
}

func newStream(ctx context.Context, cancel context.CancelCauseFunc, response *http.Response) *Stream {
	s := &Stream{
		ID:     response.Header.Get("Mesos-Stream-Id"),
		ctx:    ctx,
		cancel: cancel,
		body:   response.Body,
	}
	s.records = NewRecordReader(readerFunc(s.read))
	return s
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read counts any byte as a sign of life: a large record may take its time.
func (s *Stream) read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if n > 0 {
		s.mu.Lock()
		if s.idle != nil {
			s.idle.Reset(s.limit)
		}
		s.mu.Unlock()
	}
	return n, err
}

// SetIdleLimit makes the stream end with [ErrIdle] when nothing arrives for d,
// counted from now and from each arrival; 0 takes the limit away.
func (s *Stream) SetIdleLimit(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	s.limit = d
	if d > 0 && s.ctx.Err() == nil {
		s.idle = time.AfterFunc(d, func() {
			s.cancel(fmt.Errorf("%w for %v", ErrIdle, d))
		})
	}
}

// Next reads the next event. The error is io.EOF when the peer ended the stream
// between two events, the reason given to End or ErrIdle when this side did;
// anything else is a broken connection or a record that makes no sense. After
// an error the stream is of no use: close it.
func (s *Stream) Next(event Event) error {
	record, err := s.records.Next()
	if err != nil {
		if cause := context.Cause(s.ctx); cause != nil {
			return cause
		}
		return err
	}
	return decode(record, event)
}

// End makes Next return reason; it does not wait.
func (s *Stream) End(reason error) { s.cancel(reason) }

// Close ends the connection and releases what the stream holds.
func (s *Stream) Close() {
	s.SetIdleLimit(0)
	s.cancel(context.Canceled)
	s.body.Close()
}

// decode survives the panics that old generated protobuf code has for some
// malformed input.
func decode(record []byte, event Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrEvent, p)
		}
	}()
	if err := event.Unmarshal(record); err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return nil
}

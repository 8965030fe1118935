package agent

import (
	"context"
	"errors"
	"io"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
)

// stream is one SUBSCRIBE and what follows from it.
type stream struct {
	cancel context.CancelFunc
	done   chan struct{}
	in     chan incoming
	// included are the updates that the SUBSCRIBE listed.
	included []*update
	// subscribed is set when SUBSCRIBED has come.
	subscribed bool
}

// incoming is an event, or the end of the stream.
type incoming struct {
	event *executor.Event
	err   error
}

// incoming is where the stream's events come from; nil, which never delivers,
// when there is none.
func (s *session) incoming() <-chan incoming {
	if s.stream == nil {
		return nil
	}
	return s.stream.in
}

// closeStream ends the stream and waits for its reader: nothing of it is
// handled any more.
func (s *session) closeStream() {
	if s.stream != nil {
		s.stream.cancel()
		<-s.stream.done
		s.stream = nil
	}
}

// subscribe starts an attempt. Its list is complete because the reader of an
// earlier stream has ended.
func (s *session) subscribe(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	body, included := s.ledger.subscribe()
	call := &executor.Call{
		Type:        executor.Call_SUBSCRIBE,
		FrameworkID: mesos.FrameworkID{Value: s.config.FrameworkID},
		ExecutorID:  mesos.ExecutorID{Value: s.config.ExecutorID},
		Subscribe:   body,
	}
	// in is unbuffered: an event that has left the reader has been handled.
	st := &stream{cancel: cancel, done: make(chan struct{}), in: make(chan incoming), included: included}
	s.stream = st
	go func() {
		defer close(st.done)
		err := s.read(ctx, call, st.in)
		select {
		case st.in <- incoming{err: err}:
		case <-ctx.Done():
		}
	}()
}

// read subscribes and passes on events until the stream ends; the error says
// how, and is never nil.
func (s *session) read(ctx context.Context, call *executor.Call, in chan<- incoming) error {
	events, err := s.api.Subscribe(ctx, call, nil)
	if err != nil {
		return err
	}
	defer events.Close()
	events.SetIdleLimit(firstEvent)
	for first := true; ; first = false {
		event := new(executor.Event)
		if err := events.Next(event); err != nil {
			if err == io.EOF {
				return errors.New("agent closed the stream")
			}
			return err
		}
		if first {
			events.SetIdleLimit(maxSilence)
		}
		select {
		case in <- incoming{event: event}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

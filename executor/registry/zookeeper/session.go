package zookeeper

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"pacer/executor/registry"
)

// event is called by the library, in its own goroutines: it must not block.
func (s *ServerSets) event(e zk.Event) {
	if e.Type != zk.EventSession {
		s.nodeEvent(e)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.State {
	case zk.StateHasSession:
		s.connected = true
	case zk.StateDisconnected, zk.StateExpired:
		if s.ready || s.connected {
			s.since = time.Now()
		}
		s.connected, s.ready = false, false
		if e.State == zk.StateExpired {
			s.sessionEndedLocked()
		}
	default:
		return
	}
	select {
	case s.states <- struct{}{}:
	default:
	}
}

// sessionEndedLocked notes that the watches are gone with the session.
func (s *ServerSets) sessionEndedLocked() {
	for _, m := range s.members {
		m.watched = false
	}
}

// nodeEvent handles a watch that fired.
func (s *ServerSets) nodeEvent(e zk.Event) {
	s.mu.Lock()
	m := s.paths[e.Path]
	changed := s.changed
	if m == nil || m.leaving {
		s.mu.Unlock()
		return
	}
	m.watched = false
	key := m.key
	s.mu.Unlock()
	if changed != nil && e.Type != zk.EventNotWatching {
		changed(key)
	}
}

// noticeAfter is how long the first session may take before that is logged.
const noticeAfter = 5 * time.Second

// sessionLoop adds credentials to new sessions, tells the reconciler of them,
// and logs what an operator has to know: once for each change.
func (s *ServerSets) sessionLoop() {
	var (
		down     = true // as far as has been logged
		lost     = time.Now()
		session  int64
		notice   = time.NewTimer(noticeAfter)
		authDone bool
	)
	defer notice.Stop()
	for {
		select {
		case <-s.states:
		case <-notice.C:
			if down {
				s.log.Warn().Strs(keyServers, s.config.Servers).AnErr("error", s.dialer.problem()).
					Msg("no session with ZooKeeper, still trying")
			}
			continue
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		connected, ready := s.connected, s.ready
		s.mu.Unlock()
		switch {
		case connected && !ready:
			if !authDone && !s.authenticate() {
				continue
			}
			authDone = true
			id := s.conn.SessionID()
			s.mu.Lock()
			if ready = s.connected; ready {
				s.ready, s.since = true, time.Now()
				s.sessions[id] = true
			}
			changed := s.changed
			s.mu.Unlock()
			if !ready {
				continue
			}
			s.dialer.connected()
			event := s.log.Info()
			if down {
				event = event.Dur(keyOutage, time.Since(lost))
			}
			event.Str(keySession, fmt.Sprintf("%#x", uint64(id))).Str(keyServer, s.conn.Server()).
				Bool("new_session", id != session).Msg("connected to ZooKeeper")
			down, session = false, id
			notice.Stop()
			if changed != nil {
				changed(registry.Key{})
			}
		case !connected && !down:
			down, lost = true, time.Now()
			s.log.Warn().Strs(keyServers, s.config.Servers).AnErr("error", s.dialer.problem()).
				Msg("connection to ZooKeeper lost, reconnecting")
		}
	}
}

// authenticate adds the credentials. The library adds them again to every
// later connection once they have been accepted.
func (s *ServerSets) authenticate() bool {
	for _, c := range s.config.Auth {
		if err := s.conn.AddAuth(c.Scheme, c.secret); err != nil {
			if s.ctx.Err() == nil {
				s.dialer.note(fmt.Errorf("credentials of scheme %s refused (see %s): %w", c.Scheme, EnvAuthFile, err))
			}
			return false
		}
	}
	return true
}

// available returns an error unless calls can be made now.
func (s *ServerSets) available() error {
	s.mu.Lock()
	ready, since := s.ready, s.since
	s.mu.Unlock()
	if ready {
		return nil
	}
	err := fmt.Errorf("%w: no session with %s for %v", registry.ErrUnavailable,
		strings.Join(s.config.Servers, ","), time.Since(since).Round(time.Millisecond))
	if problem := s.dialer.problem(); problem != nil {
		err = fmt.Errorf("%w: %w", err, problem)
	}
	return err
}

// Close implements [registry.Backend]. With the session all entries that it
// still owns go at once.
func (s *ServerSets) Close(ctx context.Context) error {
	s.cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.conn.Close() // waits for the server, but no longer than 3 s
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
	// Whatever still waits for the server waits in vain.
	s.dialer.close()
	<-closed
	s.wg.Wait()
	return nil
}

package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"

	"pacer/executor/registry"
)

// Name is the [registry.Backend.Name] of ServerSets.
const Name = "zookeeper"

// Sizes of the client's buffers, which would be 1.5 MB each.
const (
	// maxReceive bounds an answer. The largest is the list of the members of
	// a service: 50,000 of them fit.
	maxReceive = 1 << 20
	// maxSend holds the library's largest request: 128 KiB of watches after a
	// reconnect.
	maxSend = 160 << 10
)

// ServerSets is a [registry.Backend] with one ZooKeeper session.
type ServerSets struct {
	config Config
	acl    []zk.ACL
	log    zerolog.Logger
	conn   *zk.Conn
	dialer *dialer

	// states tells sessionLoop that the state below has changed.
	states chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	changed func(registry.Key)
	// connected follows the library; ready is set when credentials have been
	// added too.
	connected, ready bool
	since            time.Time // of the state
	sessions         map[int64]bool
	members          map[registry.Key]*member
	paths            map[string]*member
}

var _ registry.Backend = (*ServerSets)(nil)

// member is what is known about the entry of one instance. The reconciler
// makes one call at a time for each; mu of ServerSets guards what the watches
// read.
type member struct {
	key registry.Key
	dir string
	// path is empty if there is no entry that we know of.
	path string
	// doubt: a create was sent and not answered.
	doubt bool
	// watched: a watch will tell of changes.
	watched bool
	// leaving: a change is of our own making.
	leaving bool
}

// New opens a session in the background. The error is about the Config; that
// no server answers is logged and otherwise no error. Close it.
func New(c Config, log zerolog.Logger) (*ServerSets, error) {
	if len(c.Servers) == 0 {
		return nil, errors.New("zookeeper: no servers: set " + EnvServers + " to zk://host:port,host:port/prefix")
	}
	if err := validateTemplate(c.Path); err != nil {
		return nil, fmt.Errorf("zookeeper: path: %w", err)
	}
	if c.SessionTimeout <= 0 {
		c.SessionTimeout = DefaultSessionTimeout
	}
	s := &ServerSets{
		config:   c,
		acl:      c.acl(),
		log:      log.With().Str(keyRegistry, Name).Logger(),
		dialer:   newDialer(c.SessionTimeout),
		states:   make(chan struct{}, 1),
		since:    time.Now(),
		sessions: make(map[int64]bool),
		members:  make(map[registry.Key]*member),
		paths:    make(map[string]*member),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	conn, events, err := zk.Connect(c.Servers, c.SessionTimeout,
		zk.WithDialer(s.dialer.dial),
		zk.WithHostProvider(new(servers)),
		zk.WithEventCallback(s.event),
		zk.WithMaxBufferSize(maxReceive),
		zk.WithMaxConnBufferSize(maxSend),
		zk.WithLogInfo(false),
		zk.WithLogger(debugLogger{s.log}))
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	s.conn = conn
	s.wg.Go(s.sessionLoop)
	s.wg.Go(func() {
		// The library drops events when this channel is full, hence the
		// callback; it closes the channel when its goroutines have ended.
		for range events {
		}
	})
	return s, nil
}

// Keys of log fields.
const (
	keyRegistry = "registry"
	keyServers  = "servers"
	keySession  = "session"
	keyServer   = "server"
	keyTask     = "task_id"
	keyPath     = "path"
	keyOutage   = "outage"
)

// debugLogger takes what the library says. It says something at each attempt
// to connect; sessionLoop says what matters, once.
type debugLogger struct{ log zerolog.Logger }

func (l debugLogger) Printf(format string, args ...any) {
	l.log.Debug().Msgf("client: "+format, args...)
}

// Name implements [registry.Backend].
func (s *ServerSets) Name() string { return Name }

// Watch implements [registry.Backend].
func (s *ServerSets) Watch(changed func(registry.Key)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
}

// Session returns the id of the session, and whether it can be used now.
func (s *ServerSets) Session() (id int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.SessionID(), s.ready
}

// Put implements [registry.Backend].
func (s *ServerSets) Put(ctx context.Context, inst registry.Instance) error {
	dir, err := s.config.dir(inst)
	if err != nil {
		return err
	}
	data, err := encode(inst)
	if err != nil {
		return err
	}
	if err := s.available(); err != nil {
		return err
	}
	m := s.member(inst.Key(), dir)
	if m.dir != dir { // cannot happen while the task lives
		if err := s.remove(ctx, m, nil); err != nil {
			return err
		}
		m = s.member(inst.Key(), dir)
	}
	if m.path != "" {
		if err := s.verify(m, data); err != nil {
			return s.explain("verify", m.path, err)
		}
	}
	if m.path == "" && m.doubt {
		if err := s.find(ctx, m, data); err != nil {
			return s.explain("look for", dir, err)
		}
	}
	if m.path == "" {
		if err := s.create(ctx, m, data); err != nil {
			return s.explain("create", dir+"/"+memberPrefix, err)
		}
	}
	s.watch(m)
	return nil
}

// Delete implements [registry.Backend].
func (s *ServerSets) Delete(ctx context.Context, inst registry.Instance) error {
	s.mu.Lock()
	m := s.members[inst.Key()]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	if err := s.available(); err != nil {
		return err
	}
	data, err := encode(inst)
	if err != nil {
		return err
	}
	return s.remove(ctx, m, data)
}

// member returns what is known about an instance, nothing at first.
func (s *ServerSets) member(k registry.Key, dir string) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[k]
	if m == nil {
		m = &member{key: k, dir: dir}
		s.members[k] = m
	}
	return m
}

// place notes where the entry of m is; an empty path means nowhere.
func (s *ServerSets) place(m *member, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.path != "" {
		delete(s.paths, m.path)
	}
	m.path, m.watched, m.doubt = path, false, false
	if path != "" {
		s.paths[path] = m
	}
}

// verify makes sure that m's entry is there, of this session, with these
// data. It forgets one that is not.
func (s *ServerSets) verify(m *member, data []byte) error {
	session := s.conn.SessionID()
	got, stat, err := s.conn.Get(m.path)
	switch {
	case errors.Is(err, zk.ErrNoNode):
		s.log.Info().Str(keyTask, m.key.TaskID).Str(keyPath, m.path).Msg("entry is gone, creating it again")
		s.place(m, "")
		return nil
	case err != nil:
		return err
	}
	if stat.EphemeralOwner != session {
		// An entry of an older session of ours is about to vanish. One of
		// somebody else took the place of ours and is none of our business.
		s.mu.Lock()
		ours := s.sessions[stat.EphemeralOwner]
		s.mu.Unlock()
		if ours {
			if err := s.conn.Delete(m.path, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
				return err
			}
		}
		s.place(m, "")
		return nil
	}
	if string(got) != string(data) {
		s.log.Info().Str(keyTask, m.key.TaskID).Str(keyPath, m.path).Msg("entry has other data, writing it again")
		_, err := s.conn.Set(m.path, data, stat.Version)
		return err
	}
	return nil
}

// find looks for an entry that a create without an answer may have left.
func (s *ServerSets) find(ctx context.Context, m *member, data []byte) error {
	session := s.conn.SessionID()
	names, _, err := s.conn.Children(m.dir)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, memberPrefix) })
	slices.Sort(names)
	// It is most likely the last.
	for _, name := range slices.Backward(names) {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := m.dir + "/" + name
		s.mu.Lock()
		taken := s.paths[path] != nil
		s.mu.Unlock()
		if taken {
			continue
		}
		got, stat, err := s.conn.Get(path)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		if stat.EphemeralOwner == session && string(got) == string(data) {
			s.place(m, path)
			return nil
		}
	}
	s.place(m, "")
	return nil
}

func (s *ServerSets) create(ctx context.Context, m *member, data []byte) error {
	// The parents can be deleted while we create below them; this often is
	// enough unless somebody does it all the time.
	const tries = 3
	var err error
	for range tries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.doubt = true
		var path string
		path, err = s.conn.Create(m.dir+"/"+memberPrefix, data, zk.FlagEphemeralSequential, s.acl)
		if err == nil {
			s.place(m, path)
			return nil
		}
		m.doubt = unknownOutcome(err)
		if !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		if err := s.createParents(m.dir); err != nil {
			return err
		}
	}
	return err
}

// unknownOutcome tells whether the server may have done what was asked.
func unknownOutcome(err error) bool {
	for _, known := range []error{
		zk.ErrNoNode, zk.ErrNoAuth, zk.ErrInvalidACL, zk.ErrBadArguments, zk.ErrNodeExists,
		zk.ErrNoChildrenForEphemerals, zk.ErrAuthFailed, zk.ErrNoServer, zk.ErrShortBuffer,
	} {
		if errors.Is(err, known) {
			return false
		}
	}
	return true
}

// createParents creates what is missing of dir. It does not try to create what
// exists: without the permission to create there, that is ErrNoAuth and not
// ErrNodeExists.
func (s *ServerSets) createParents(dir string) error {
	ok, _, err := s.conn.Exists(dir)
	if ok || err != nil {
		return err
	}
	if i := strings.LastIndexByte(dir, '/'); i > 0 {
		if err := s.createParents(dir[:i]); err != nil {
			return err
		}
	}
	_, err = s.conn.Create(dir, nil, zk.FlagPersistent, s.acl)
	if errors.Is(err, zk.ErrNodeExists) || errors.Is(err, zk.ErrNoNode) {
		return nil // somebody was faster, or is deleting; create finds out
	}
	return err
}

// remove deletes m's entry and forgets m. data may be nil if there is no doubt.
func (s *ServerSets) remove(ctx context.Context, m *member, data []byte) error {
	if m.path == "" && m.doubt {
		if err := s.find(ctx, m, data); err != nil {
			return s.explain("look for", m.dir, err)
		}
	}
	if m.path != "" {
		s.mu.Lock()
		m.leaving = true
		s.mu.Unlock()
		if err := s.conn.Delete(m.path, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			s.mu.Lock()
			m.leaving = false
			s.mu.Unlock()
			return s.explain("delete", m.path, err)
		}
	}
	s.place(m, "")
	s.mu.Lock()
	delete(s.members, m.key)
	s.mu.Unlock()
	return nil
}

// watch sets a watch on m's entry unless it has one. Without it the
// reconciler's interval still finds changes, so errors do not matter.
func (s *ServerSets) watch(m *member) {
	s.mu.Lock()
	set := !m.watched && m.path != ""
	path := m.path
	if set {
		m.watched = true
	}
	s.mu.Unlock()
	if !set {
		return
	}
	ok, _, _, err := s.conn.ExistsW(path)
	if err == nil && ok {
		return
	}
	s.mu.Lock()
	m.watched = false
	changed := s.changed
	s.mu.Unlock()
	if err == nil && changed != nil {
		changed(m.key) // it has gone already
	}
}

// explain adds to an error what was being done, and tells an outage.
func (s *ServerSets) explain(what, path string, err error) error {
	switch {
	case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrClosing),
		errors.Is(err, zk.ErrNoServer), errors.Is(err, zk.ErrSessionExpired):
		return fmt.Errorf("%w: connection lost: %s %s: %w", registry.ErrUnavailable, what, path, err)
	case errors.Is(err, zk.ErrNoAuth):
		return fmt.Errorf("%s %s: not allowed with the credentials given: check %s and the node's ACL: %w", what, path, EnvAuthFile, err)
	}
	return fmt.Errorf("%s %s: %w", what, path, err)
}

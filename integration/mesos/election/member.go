package election

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/rs/zerolog"

	"pacer/integration/mesos/wire"
)

// prefix is what contenders' nodes begin with.
const prefix = "json.info_"

// replicas is the node of the replicated log, beside the contenders.
const replicas = "log_replicas"

// Config says where a group is and what the member wants there.
type Config struct {
	// URL is zk://host:port[,host:port...]/path.
	URL string
	// SessionTimeout is after how much silence ZooKeeper, and the member itself,
	// give the session up. Default 10 s, as in Mesos.
	SessionTimeout time.Duration
	// Info makes the member a contender that publishes it; nil only watches.
	Info *mesos.MasterInfo
	// Replicated adds the nodes of a replicated registry.
	Replicated bool
	// Log is where the member says what happens to it; the zero Logger writes
	// nowhere.
	Log zerolog.Logger
}

// Member is one process' part in a group.
type Member struct {
	config  Config
	servers []string
	path    string
	network network

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	leader  *mesos.MasterInfo
	changed chan struct{}
}

// Join makes a member. It needs no connection: ZooKeeper may come later.
func Join(config Config) (*Member, error) {
	servers, root, err := ParseURL(config.URL)
	if err != nil {
		return nil, err
	}
	if config.SessionTimeout < 0 {
		return nil, fmt.Errorf("SessionTimeout %v: give a positive duration, or 0 for 10 s", config.SessionTimeout)
	}
	if config.SessionTimeout == 0 {
		config.SessionTimeout = 10 * time.Second
	}
	m := &Member{config: config, servers: servers, path: root, changed: make(chan struct{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.tasks.Go(m.run)
	return m, nil
}

// ParseURL splits zk://host:port,host:port/path. The path is not the root.
func ParseURL(url string) (servers []string, root string, err error) {
	rest, ok := strings.CutPrefix(url, "zk://")
	hosts, root, _ := strings.Cut(rest, "/")
	root = path.Clean("/" + root)
	servers = strings.Split(hosts, ",")
	if !ok || slices.Contains(servers, "") || root == "/" || strings.Contains(hosts, "@") {
		return nil, "", fmt.Errorf("ZooKeeper URL of %d bytes: give zk://host:port[,host:port...]/path, without credentials", len(url))
	}
	return servers, root, nil
}

// Leader returns what the leader has published, nil when there is none or ZooKeeper
// has been silent for too long, and a channel that is closed when that changes.
func (m *Member) Leader() (*mesos.MasterInfo, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader, m.changed
}

func (m *Member) setLeader(info *mesos.MasterInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader == nil && info == nil || m.leader != nil && info != nil && m.leader.ID == info.ID {
		return
	}
	m.leader = info
	close(m.changed)
	m.changed = make(chan struct{})
}

// Close leaves the group: the member's nodes are gone at once.
func (m *Member) Close() {
	m.network.thaw()
	m.cancel()
	m.tasks.Wait()
}

// Abandon ends the member as the death of its process does: ZooKeeper keeps its
// nodes until the session expires.
func (m *Member) Abandon() {
	m.network.cut()
	m.network.thaw()
	m.cancel()
	m.tasks.Wait()
}

// Freeze stops the member as SIGSTOP does: its connection stays open, and nothing is
// sent on it.
func (m *Member) Freeze() { m.network.freeze() }

// Thaw ends a Freeze.
func (m *Member) Thaw() { m.network.thaw() }

// run goes through sessions, one after the other.
func (m *Member) run() {
	defer m.setLeader(nil)
	for m.ctx.Err() == nil {
		if err := m.session(); err != nil && m.ctx.Err() == nil {
			m.config.Log.Warn().Err(err).Msg("session with ZooKeeper ended")
		}
		m.setLeader(nil)
	}
}

var errSilent = errors.New("ZooKeeper did not answer for the session's timeout")

// session lives through one session and returns when it has expired, or should have.
func (m *Member) session() error {
	conn, events, err := zk.Connect(m.servers, m.config.SessionTimeout,
		zk.WithDialer(m.network.dial), zk.WithLogger(quiet{}), zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	s := &session{member: m, conn: conn, looked: make(chan looked, 1)}
	defer s.end(events)
	timeout := time.NewTimer(m.config.SessionTimeout)
	defer timeout.Stop()
	var (
		watch <-chan zk.Event
		again <-chan time.Time
	)
	for {
		select {
		case <-m.ctx.Done():
			return m.ctx.Err()
		case <-timeout.C:
			return errSilent
		case e, ok := <-events:
			switch {
			case !ok || e.State == zk.StateExpired:
				return zk.ErrSessionExpired
			case e.State == zk.StateHasSession:
				timeout.Stop()
				s.connected = true
				s.look()
			case e.State == zk.StateDisconnected && s.connected:
				s.connected = false
				timeout.Reset(m.config.SessionTimeout)
			}
		case <-watch:
			watch = nil
			s.look()
		case <-again:
			again = nil
			s.look()
		case result := <-s.looked:
			s.looking = false
			switch {
			case s.stale:
				s.look()
			case result.err != nil:
				// Not connected at this very moment, or nodes came and went.
				m.config.Log.Debug().Err(result.err).Msg("ZooKeeper request failed")
				again = time.After(50 * time.Millisecond)
			default:
				watch = result.watch
			}
		}
	}
}

// session is what a Member knows of its present session. It belongs to the goroutine
// of Member.session.
type session struct {
	member    *Member
	conn      *zk.Conn
	connected bool
	joined    bool // our nodes exist; written by the goroutine that looks
	looking   bool // that goroutine runs
	stale     bool // the group has changed since it was started
	looked    chan looked
	tasks     sync.WaitGroup
}

type looked struct {
	watch <-chan zk.Event
	err   error
}

// look joins the group and finds its leader, beside the session's goroutine because
// the client's calls have no deadline.
func (s *session) look() {
	if !s.connected {
		return
	}
	if s.looking {
		s.stale = true
		return
	}
	s.looking, s.stale = true, false
	s.tasks.Go(func() {
		if !s.joined {
			if err := s.member.contend(s.conn); err != nil {
				s.looked <- looked{err: err}
				return
			}
			s.joined = true
		}
		watch, err := s.member.look(s.conn)
		s.looked <- looked{watch, err}
	})
}

// end closes the connection and waits for everything that belongs to it.
func (s *session) end(events <-chan zk.Event) {
	m := s.member
	if m.ctx.Err() == nil {
		m.network.reset() // it is no use to say goodbye
	}
	s.conn.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// The client waits for answers longer than we do.
		m.network.reset()
		select {
		case _, ok := <-events:
			if !ok {
				s.tasks.Wait()
				return
			}
		case <-tick.C:
		}
	}
}

// contend creates the member's nodes.
func (m *Member) contend(conn *zk.Conn) error {
	if err := create(conn, m.path); err != nil || m.config.Info == nil {
		return err
	}
	data, err := Encode(m.config.Info)
	if err != nil {
		return err
	}
	if _, err := conn.Create(m.path+"/"+prefix, data, zk.FlagEphemeral|zk.FlagSequence, zk.WorldACL(zk.PermAll)); err != nil {
		return err
	}
	if !m.config.Replicated {
		return nil
	}
	directory := m.path + "/" + replicas
	if err := create(conn, directory); err != nil {
		return err
	}
	pid := "log-replica(1)@" + strings.TrimPrefix(m.config.Info.GetPID(), "master@")
	_, err = conn.Create(directory+"/", []byte(pid), zk.FlagEphemeral|zk.FlagSequence, zk.WorldACL(zk.PermAll))
	return err
}

// create makes a lasting node and those above it.
func create(conn *zk.Conn, node string) error {
	_, err := conn.Create(node, nil, 0, zk.WorldACL(zk.PermAll))
	switch {
	case errors.Is(err, zk.ErrNodeExists):
		return nil
	case errors.Is(err, zk.ErrNoNode):
		if err := create(conn, path.Dir(node)); err != nil {
			return err
		}
		return create(conn, node)
	}
	return err
}

// look finds the leader, and returns what tells of a change of the group.
func (m *Member) look(conn *zk.Conn) (<-chan zk.Event, error) {
	for {
		names, _, watch, err := conn.ChildrenW(m.path)
		if err != nil {
			return nil, err
		}
		first := ""
		for _, name := range names {
			// Ten digits: the order of texts is that of numbers.
			if strings.HasPrefix(name, prefix) && (first == "" || name < first) {
				first = name
			}
		}
		if first == "" {
			m.setLeader(nil)
			return watch, nil
		}
		data, _, err := conn.Get(m.path + "/" + first)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info := new(mesos.MasterInfo)
		if _, err := wire.JSON.Unmarshal(data, info); err != nil {
			return nil, fmt.Errorf("read %s: %w", first, err)
		}
		m.setLeader(info)
		return watch, nil
	}
}

// Encode is the content of a contender's node: Mesos' JSON with sorted keys.
func Encode(info *mesos.MasterInfo) ([]byte, error) {
	text, err := wire.JSON.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode MasterInfo: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("encode MasterInfo: %w", err)
	}
	return json.Marshal(value)
}

// quiet keeps the client's remarks to itself.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rs/zerolog"
)

const (
	// sessionTimeout only matters for how soon a lost server is left; nothing
	// ephemeral is created.
	sessionTimeout = 10 * time.Second
	// nodePrefix is that of the nodes in which masters describe themselves, with
	// a sequence number behind it; the lowest leads.
	nodePrefix = "json.info_"
	// zookeeperPause is the time between attempts after a failed request.
	zookeeperPause = time.Second
	// maxNode is the largest answer read from ZooKeeper, in bytes.
	maxNode = 1 << 20
)

// zookeeperConn is what is used of a *zk.Conn.
type zookeeperConn interface {
	ChildrenW(path string) ([]string, *zk.Stat, <-chan zk.Event, error)
	ExistsW(path string) (bool, *zk.Stat, <-chan zk.Event, error)
	Get(path string) ([]byte, *zk.Stat, error)
}

// zookeeperFinder watches the masters' election. When ZooKeeper does not
// answer it keeps to the leader that it knows.
type zookeeperFinder struct {
	servers []string
	path    string
	auth    string // "user:password" or ""
	scheme  string
	log     zerolog.Logger

	mu   sync.Mutex
	lead master
	// changed is closed, and replaced, when lead changes.
	changed chan struct{}
}

// newZookeeperFinder reads "[user:password@]host:port,host:port/path".
func newZookeeperFinder(text string, tls bool, log zerolog.Logger) (*zookeeperFinder, error) {
	f := &zookeeperFinder{scheme: "http", log: log, changed: make(chan struct{})}
	if tls {
		f.scheme = "https"
	}
	if i := strings.LastIndex(text, "@"); i >= 0 {
		f.auth, text = text[:i], text[i+1:]
		if !strings.Contains(f.auth, ":") {
			return nil, errors.New("credentials of the masters' ZooKeeper: write them as user:password@")
		}
	}
	hosts, path, _ := strings.Cut(text, "/")
	f.path = "/" + strings.Trim(path, "/")
	if f.path == "/" || strings.Contains(f.path, "//") {
		return nil, errors.New("address of the masters has no ZooKeeper path: write it as zk://host:port,host:port/path, usually /mesos")
	}
	f.servers = strings.Split(hosts, ",")
	var problems []error
	for _, server := range f.servers {
		if err := checkHostPort(server); err != nil {
			problems = append(problems, fmt.Errorf("ZooKeeper: %w", err))
		}
	}
	return f, errors.Join(problems...)
}

func (f *zookeeperFinder) leader(ctx context.Context) (master, error) {
	for {
		f.mu.Lock()
		lead, changed := f.lead, f.changed
		f.mu.Unlock()
		if lead != (master{}) {
			return lead, ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return master{}, ctx.Err()
		}
	}
}

func (f *zookeeperFinder) tried(master, error) bool { return false }

func (f *zookeeperFinder) moved(m master) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lead != m && f.lead != (master{}) {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return f.changed
}

// set takes note of the leader. That there is none is not believed: a master
// that has lost its session ends, and its stream with it.
func (f *zookeeperFinder) set(lead master) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if lead == f.lead || lead == (master{}) {
		return
	}
	f.log.Info().Str(keyMaster, lead.url).Msg("leader_found")
	f.lead = lead
	close(f.changed)
	f.changed = make(chan struct{})
}

// run holds a session while ctx lives.
func (f *zookeeperFinder) run(ctx context.Context) {
	for {
		// Connect fails where no name of a server can be resolved.
		conn, events, err := zk.Connect(f.servers, sessionTimeout,
			zk.WithLogger(zkLogger{f.log}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxNode))
		if err == nil {
			f.hold(ctx, conn, events)
			return
		}
		f.log.Warn().Err(err).Msg("zookeeper_not_connected")
		if !sleep(ctx, 5*zookeeperPause, nil) {
			return
		}
	}
}

func (f *zookeeperFinder) hold(ctx context.Context, conn *zk.Conn, events <-chan zk.Event) {
	// Requests take no context and block while there is no connection; closing
	// frees them. The channel of events is closed by the last of the
	// connection's goroutines.
	stop := context.AfterFunc(ctx, conn.Close)
	defer func() {
		stop()
		conn.Close()
		for range events {
		}
	}()
	if f.auth != "" {
		// Its answer comes with the session; a refused one shows as ErrNoAuth.
		if err := conn.AddAuth("digest", []byte(f.auth)); err != nil && ctx.Err() == nil {
			f.log.Error().Err(err).Msg("zookeeper_authentication_failed")
		}
	}
	f.watch(ctx, conn)
}

// watch follows the election until ctx ends.
func (f *zookeeperFinder) watch(ctx context.Context, conn zookeeperConn) {
	var reported time.Time
	for ctx.Err() == nil {
		changed, err := f.look(conn)
		switch {
		case err == nil && changed == nil: // look again
			continue
		case err == nil:
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		case ctx.Err() != nil:
			return
		}
		if now := time.Now(); now.Sub(reported) >= reportPause {
			reported = now
			f.log.Warn().Err(err).Str("path", f.path).Msg("zookeeper_not_read")
		}
		sleep(ctx, zookeeperPause, nil)
	}
}

// look finds the leader once. The channel tells when to look again; nil means
// at once.
func (f *zookeeperFinder) look(conn zookeeperConn) (<-chan zk.Event, error) {
	children, _, changed, err := conn.ChildrenW(f.path)
	if errors.Is(err, zk.ErrNoNode) {
		// No master has ever run here.
		exists, _, created, err := conn.ExistsW(f.path)
		if exists {
			return nil, nil
		}
		return created, err
	}
	if err != nil {
		return nil, fmt.Errorf("list masters: %w", err)
	}
	node, found := lowest(children)
	if !found {
		return changed, nil
	}
	data, _, err := conn.Get(f.path + "/" + node)
	if errors.Is(err, zk.ErrNoNode) {
		// Gone since; the watch has fired or will.
		return changed, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read master %s: %w", node, err)
	}
	lead, err := parseMaster(data, f.scheme)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", node, err)
	}
	f.set(lead)
	return changed, nil
}

// lowest is the node of the leader among the children of the masters' path,
// which hold other things as well (info_, log_replicas).
func lowest(children []string) (node string, found bool) {
	var least uint64
	for _, child := range children {
		digits, ok := strings.CutPrefix(child, nodePrefix)
		if !ok {
			continue
		}
		number, err := strconv.ParseUint(digits, 10, 64)
		if err == nil && (!found || number < least) {
			node, least, found = child, number, true
		}
	}
	return node, found
}

// parseMaster reads a MasterInfo in JSON. The name in it may not resolve here,
// so that connections go to its IP; TLS certificates are for the name.
func parseMaster(data []byte, scheme string) (master, error) {
	var info struct {
		PID     string `json:"pid"`
		Address struct {
			Hostname string `json:"hostname"`
			IP       string `json:"ip"`
			Port     int    `json:"port"`
		} `json:"address"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return master{}, fmt.Errorf("MasterInfo is no JSON: %w", err)
	}
	address := ""
	if info.Address.IP != "" && info.Address.Port > 0 {
		address = net.JoinHostPort(info.Address.IP, strconv.Itoa(info.Address.Port))
	} else if _, after, found := strings.Cut(info.PID, "@"); found {
		address = after
	}
	if err := checkHostPort(address); err != nil {
		return master{}, fmt.Errorf("MasterInfo has neither address.ip and address.port nor a pid: %w", err)
	}
	lead := master{url: scheme + "://" + address, address: address}
	if name := info.Address.Hostname; scheme == "https" && name != "" {
		_, port, _ := net.SplitHostPort(address)
		if named := net.JoinHostPort(name, port); checkHostPort(named) == nil {
			lead.url = scheme + "://" + named
		}
	}
	return lead, nil
}

// zkLogger takes what the ZooKeeper client says, which repeats itself every
// second while there is no server.
type zkLogger struct{ log zerolog.Logger }

func (l zkLogger) Printf(format string, args ...any) {
	l.log.Debug().Str("zookeeper", fmt.Sprintf(format, args...)).Msg("zookeeper_client")
}

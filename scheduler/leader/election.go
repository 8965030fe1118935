package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"pacer/scheduler/state/zookeeper"
)

// ErrLost says that this scheduler no longer leads. The process must end.
var ErrLost = errors.New("lost the lead")

// Keys of log lines.
const (
	keyMember = "member"
	keyLeader = "leader"
	keyError  = "error"
)

// retryPause is the time between attempts after an answer that makes no sense.
const retryPause = time.Second

// Member is a scheduler as the others see it.
type Member struct {
	// ID is different for every process.
	ID string `json:"id"`
	// API is the base URL at which the others reach its API.
	API string `json:"api"`
	// Public is the base URL of its public listener.
	Public string `json:"public,omitempty"`
	// Executor is the SHA-256 of the executor's binary that it serves.
	Executor string `json:"executor,omitempty"`
	// Version of the scheduler, for people.
	Version string `json:"version,omitempty"`
}

// Election is one scheduler's part in the election.
type Election struct {
	client *zookeeper.Client
	self   Member
	log    zerolog.Logger

	mu     sync.Mutex
	leader Member // zero if there is none, or none is known
}

// New makes a candidate. Its ID is chosen if it has none.
func New(client *zookeeper.Client, self Member, log zerolog.Logger) *Election {
	if self.ID == "" {
		self.ID = uuid.NewString()
	}
	return &Election{client: client, self: self, log: log.With().Str(keyMember, self.ID).Logger()}
}

// Self is this scheduler.
func (e *Election) Self() Member { return e.self }

// Leader is who leads, as far as is known. It may be this scheduler.
func (e *Election) Leader() (Member, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leader, e.leader != (Member{})
}

func (e *Election) setLeader(m Member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leader == m {
		return
	}
	e.leader = m
	if m != (Member{}) {
		e.log.Info().Str(keyLeader, m.API).Bool("self", m.ID == e.self.ID).Msg("leader found")
	}
}

func (e *Election) path() string { return e.client.Root() + "/election" }

// Run stands for election until ctx ends (then it returns nil), and calls lead
// when elected. lead's context ends when the lead is lost, and Run then
// returns ErrLost, else what lead returns. Before it returns it resigns.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	data, err := json.Marshal(e.self)
	if err != nil {
		return fmt.Errorf("describe member: %w", err)
	}
	var leading *term
	for {
		looking := ctx
		if leading != nil {
			looking = leading.ctx // it must not wait for ZooKeeper when that has ended
		}
		elected, changed, err := e.look(looking, data)
		switch {
		case ctx.Err() != nil && leading == nil:
			return e.resign(ctx)
		case err != nil && leading == nil:
			// Credentials, for example. An operator has to do something, but
			// may do it in ZooKeeper.
			e.log.Error().AnErr(keyError, err).Msg("election cannot be read; trying again")
			if !pause(ctx, retryPause) {
				return e.resign(ctx)
			}
			continue
		}
		switch {
		case elected && leading == nil:
			leading = e.begin(ctx, lead)
		case !elected && err == nil && leading != nil:
			return e.lost(ctx, leading)
		}
		if leading == nil {
			if changed.wait(ctx, nil) == waitedForContext {
				return e.resign(ctx)
			}
			continue
		}
		switch changed.wait(ctx, leading.done) {
		case waitedForSession:
			return e.lost(ctx, leading)
		case waitedForLeader:
			return errors.Join(leading.end(), e.resign(ctx))
		case waitedForContext:
			return errors.Join(leading.end(), e.resign(ctx))
		}
	}
}

// lost ends the term of a leader that no longer is.
func (e *Election) lost(ctx context.Context, leading *term) error {
	e.setLeader(Member{})
	e.log.Error().Msg("lost the lead")
	return errors.Join(ErrLost, leading.end(), e.resign(ctx))
}

// term is the time as a leader.
type term struct {
	ctx    context.Context // also ends when lead returns
	cancel context.CancelFunc
	done   chan struct{}
	err    error // before done is closed
}

func (e *Election) begin(ctx context.Context, lead func(context.Context) error) *term {
	e.log.Info().Msg("elected")
	leading, cancel := context.WithCancel(ctx)
	t := &term{ctx: leading, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer cancel()
		defer close(t.done)
		t.err = lead(leading)
	}()
	return t
}

// end ends the term and waits for it.
func (t *term) end() error {
	t.cancel()
	<-t.done
	return t.err
}

// change tells when to look again.
type change struct {
	watch <-chan zk.Event
	ended <-chan struct{} // the session
}

type waited int

const (
	waitedForWatch waited = iota
	waitedForSession
	waitedForLeader
	waitedForContext
)

func (c change) wait(ctx context.Context, done <-chan struct{}) waited {
	select {
	case <-c.ended:
		return waitedForSession
	default:
	}
	select {
	case <-c.ended:
		return waitedForSession
	case <-done:
		return waitedForLeader
	case <-ctx.Done():
		return waitedForContext
	case <-c.watch:
		return waitedForWatch
	}
}

// look finds out who leads, after making sure that we are a candidate.
func (e *Election) look(ctx context.Context, data []byte) (elected bool, changed change, err error) {
	// Before anything that may belong to a later session.
	_, changed.ended = e.client.Session()
	for {
		var names []string
		err = e.client.Repeat(ctx, func(conn *zk.Conn) error {
			var err error
			names, _, changed.watch, err = conn.ChildrenW(e.path())
			return err
		})
		if errors.Is(err, zk.ErrNoNode) {
			if err = e.client.Ensure(ctx, e.path()); err == nil {
				continue
			}
		}
		if err != nil {
			return false, change{ended: changed.ended}, fmt.Errorf("list %s: %w", e.path(), err)
		}
		names = candidates(names)
		mine := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return memberOf(name) != e.self.ID })
		if len(mine) == 0 {
			if err := e.join(ctx, data); err != nil {
				return false, changed, err
			}
			continue
		}
		// An answer that was lost makes us join twice.
		for _, name := range mine[1:] {
			if err := e.delete(ctx, name); err != nil {
				return false, changed, err
			}
		}
		if names[0] == mine[0] {
			e.setLeader(e.self)
			return true, changed, nil
		}
		leader, err := e.read(ctx, names[0])
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return false, changed, err
		}
		e.setLeader(leader)
		return false, changed, nil
	}
}

// candidates are the nodes of members, in the order of their numbers.
func candidates(names []string) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return memberOf(name) == "" })
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[len(a)-digits:], b[len(b)-digits:]) })
	return names
}

// digits of the number that ZooKeeper appends.
const digits = 10

// memberOf is the ID of the member that a node belongs to, or "".
func memberOf(name string) string {
	at := len(name) - digits - 1
	if at <= 0 || name[at] != '-' || strings.Trim(name[at+1:], "0123456789") != "" {
		return ""
	}
	return name[:at]
}

func (e *Election) join(ctx context.Context, data []byte) error {
	err := e.client.Do(ctx, func(conn *zk.Conn) error {
		_, err := conn.Create(e.path()+"/"+e.self.ID+"-", data, zk.FlagEphemeral|zk.FlagSequence, e.client.ACL())
		return err
	})
	if e.client.Unanswered(err) {
		return nil // the next look tells
	}
	if err != nil {
		return fmt.Errorf("stand for election: %w", err)
	}
	return nil
}

func (e *Election) delete(ctx context.Context, name string) error {
	err := e.client.Repeat(ctx, func(conn *zk.Conn) error { return conn.Delete(e.path()+"/"+name, -1) })
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("delete candidate %s: %w", name, err)
	}
	return nil
}

func (e *Election) read(ctx context.Context, name string) (Member, error) {
	var data []byte
	err := e.client.Repeat(ctx, func(conn *zk.Conn) error {
		var err error
		data, _, err = conn.Get(e.path() + "/" + name)
		return err
	})
	if err != nil {
		return Member{}, fmt.Errorf("read candidate %s: %w", name, err)
	}
	var m Member
	if err := json.Unmarshal(data, &m); err != nil || m.ID == "" {
		return Member{}, fmt.Errorf("candidate %s is no member in JSON", name)
	}
	return m, nil
}

// Members are all schedulers, the leader first.
func (e *Election) Members(ctx context.Context) ([]Member, error) {
	var names []string
	err := e.client.Repeat(ctx, func(conn *zk.Conn) error {
		var err error
		names, _, err = conn.Children(e.path())
		return err
	})
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", e.path(), err)
	}
	var members []Member
	for _, name := range candidates(names) {
		m, err := e.read(ctx, name)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return members, nil
}

// resignTimeout bounds how long an end is delayed for the next leader to
// follow at once. Closing the session does the same, a little later.
const resignTimeout = time.Second

// resign takes us off the list of candidates.
func (e *Election) resign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resignTimeout)
	defer cancel()
	var names []string
	err := e.client.Repeat(ctx, func(conn *zk.Conn) error {
		var err error
		names, _, err = conn.Children(e.path())
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // our candidacy ends with the session
	}
	for _, name := range names {
		if memberOf(name) == e.self.ID {
			if e.delete(ctx, name) != nil {
				break // likewise
			}
		}
	}
	e.setLeader(Member{})
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
